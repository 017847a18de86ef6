import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { FairQueue } from './fair-queue.ts'

export type WorkerProcessOptions = {
  /** The module that a thread of the process runs. It answers each message to its `parentPort` with an `Answer`. */
  readonly entry: URL
  /** Tasks that wait, beside the one that runs: of all clients, and of one. */
  readonly waitingMax: number
  readonly clientWaitingMax: number
  readonly taskMillisecondsMax: number
  readonly heapMebibytesMax: number
}

/** The message that ends a task. */
export type Answer<Result> =
  | { readonly isDone: true; readonly result: Result }
  | { readonly isDone: false; readonly error: Error }

/** As many tasks wait for a process as may, of all clients or of one. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError'
}

/** A task took too long or too much memory, so that its process ended. */
export class TaskFailedError extends Error {
  override readonly name = 'TaskFailedError'
}

type Waiting<Task, Result> = {
  prepare(): Promise<Task>
  resolve(result: Result): void
  reject(error: unknown): void
}

/** The module that a process runs. */
const PROCESS_ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './worker-process-entry.ts' : './worker-process-entry.js',
  import.meta.url,
)
// A process has 60 MB. One without tasks ends after this time.
const IDLE_MILLISECONDS_MAX = 60_000

/**
 * Runs tasks that compute for long, one after the other in a process of their own; clients take turns. The process
 * starts with a task, starts again after a task that ended it, and ends when it has had no task for IDLE_MILLISECONDS_MAX.
 * Its memory is its own: where Node ends a process whose thread exceeds its heap, as Node 24 does, the registry goes on.
 */
export class WorkerProcess<Task, Result> {
  readonly #options: WorkerProcessOptions
  readonly #queue = new FairQueue<Waiting<Task, Result>>()
  #worker: ChildProcess | undefined
  #idle: NodeJS.Timeout | undefined
  #isRunning = false
  #isClosed = false

  constructor(options: WorkerProcessOptions) {
    this.#options = options
  }

  /** The tasks that wait, without the one that runs. */
  get waiting(): number {
    return this.#queue.length
  }

  /**
   * Runs a task of a client. `prepare` is called when its turn comes, so that a waiting task takes no memory. Throws
   * QueueFullError, TaskFailedError, and what `prepare` and the task throw.
   */
  run(client: string, prepare: () => Promise<Task>): Promise<Result> {
    if (this.#isClosed) throw closed()
    const { waitingMax, clientWaitingMax } = this.#options
    const waiting = this.#queue.lengthOf(client)
    if (this.#queue.length >= waitingMax || waiting >= clientWaitingMax) {
      throw new QueueFullError(`${this.#queue.length} tasks wait, ${waiting} of this client`)
    }
    return new Promise((resolve, reject) => {
      this.#queue.push(client, { prepare, resolve, reject })
      if (!this.#isRunning) void this.#drain()
    })
  }

  /** Ends the process. The tasks fail. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      next.reject(closed())
    }
    await this.#end()
  }

  async #drain(): Promise<void> {
    this.#isRunning = true
    clearTimeout(this.#idle)
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      try {
        next.resolve(await this.#compute(await next.prepare()))
      } catch (error) {
        next.reject(error)
      }
    }
    this.#isRunning = false
    this.#idle = setTimeout(() => void this.#end(), IDLE_MILLISECONDS_MAX).unref()
  }

  async #compute(task: Task): Promise<Result> {
    if (this.#isClosed) throw closed()
    this.#worker ??= this.#start()
    const worker = this.#worker
    try {
      const answer = await this.#ask(worker, task)
      if (!answer.isDone) throw answer.error
      return answer.result
    } catch (error) {
      if (error instanceof TaskFailedError) await this.#end()
      throw error
    }
  }

  async #ask(worker: ChildProcess, task: Task): Promise<Answer<Result>> {
    const { taskMillisecondsMax } = this.#options
    const listening = new AbortController()
    const { signal } = listening
    const timer = setTimeout(() => listening.abort(), taskMillisecondsMax)
    try {
      const answered = Promise.race([
        once(worker, 'message', { signal }),
        once(worker, 'exit', { signal }).then(() => {
          throw new Error('the process ended')
        }),
      ])
      // A process that receives nothing any more ends, too.
      worker.send(task as object, () => {})
      const [answer] = await answered
      return answer
    } catch (cause) {
      const reason = signal.aborted
        ? `it takes more than ${taskMillisecondsMax} ms`
        : 'its process ended'
      throw new TaskFailedError(`a task failed: ${reason}`, { cause })
    } finally {
      clearTimeout(timer)
      listening.abort()
    }
  }

  #start(): ChildProcess {
    const { entry, heapMebibytesMax } = this.#options
    const worker = fork(fileURLToPath(PROCESS_ENTRY), [entry.href, String(heapMebibytesMax)], {
      serialization: 'advanced',
      // No secret of the registry, and none of its options.
      env: {},
      execArgv: PROCESS_ENTRY.pathname.endsWith('.ts')
        ? ['--import', import.meta.resolve('tsx')]
        : [],
      // Node prints a trace when the heap is full.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    // A server that has nothing else to do may exit.
    worker.unref()
    worker.channel?.unref()
    const forget = () => {
      if (this.#worker === worker) this.#worker = undefined
    }
    for (const end of ['error', 'disconnect', 'exit']) worker.on(end, forget)
    return worker
  }

  async #end(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    clearTimeout(this.#idle)
    if (worker?.pid === undefined || worker.exitCode !== null || worker.signalCode !== null) return
    const ended = once(worker, 'exit')
    worker.kill('SIGKILL')
    await ended
  }
}

function closed(): TaskFailedError {
  return new TaskFailedError('the process was closed')
}
