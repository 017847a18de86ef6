import { once } from 'node:events'
import { type TransferListItem, Worker } from 'node:worker_threads'
import { FairQueue } from './fair-queue.ts'

export type WorkerThreadOptions = {
  /** The module that the thread runs. It answers each message with an `Answer`. */
  readonly entry: URL
  /** Tasks that wait, beside the one that runs: of all clients, and of one. */
  readonly waitingMax: number
  readonly clientWaitingMax: number
  readonly taskMillisecondsMax: number
  readonly heapMebibytesMax: number
}

/** A message to the thread, and the buffers that move to it. */
export type WorkerTask<Task> = {
  readonly task: Task
  readonly transfer?: readonly TransferListItem[]
}

/** The message by which the thread ends a task. */
export type Answer<Result> =
  | { readonly isDone: true; readonly result: Result }
  | { readonly isDone: false; readonly error: Error }

/** As many tasks wait for a thread as may, of all clients or of one. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError'
}

/** A task took too long or too much memory, so that its thread was ended. */
export class TaskFailedError extends Error {
  override readonly name = 'TaskFailedError'
}

type Waiting<Task, Result> = {
  prepare(): Promise<WorkerTask<Task>>
  resolve(result: Result): void
  reject(error: unknown): void
}

/**
 * Runs tasks that compute for long, one after the other in a thread of their own; clients take turns. The thread
 * starts with the first task, and starts again after a task that ended it.
 */
export class WorkerThread<Task, Result> {
  readonly #options: WorkerThreadOptions
  readonly #queue = new FairQueue<Waiting<Task, Result>>()
  #worker: Worker | undefined
  #isRunning = false
  #isClosed = false

  constructor(options: WorkerThreadOptions) {
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
  run(client: string, prepare: () => Promise<WorkerTask<Task>>): Promise<Result> {
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

  /** Ends the thread. The tasks fail. */
  async close(): Promise<void> {
    this.#isClosed = true
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      next.reject(closed())
    }
    await this.#end()
  }

  async #drain(): Promise<void> {
    this.#isRunning = true
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      try {
        next.resolve(await this.#compute(await next.prepare()))
      } catch (error) {
        next.reject(error)
      }
    }
    this.#isRunning = false
  }

  async #compute({ task, transfer = [] }: WorkerTask<Task>): Promise<Result> {
    if (this.#isClosed) throw closed()
    this.#worker ??= this.#start()
    const worker = this.#worker
    worker.postMessage(task, transfer)
    try {
      const answer = await this.#answerOf(worker)
      if (!answer.isDone) throw answer.error
      return answer.result
    } catch (error) {
      if (error instanceof TaskFailedError) await this.#end()
      throw error
    }
  }

  async #answerOf(worker: Worker): Promise<Answer<Result>> {
    const { taskMillisecondsMax } = this.#options
    const listening = new AbortController()
    const { signal } = listening
    const timer = setTimeout(() => listening.abort(), taskMillisecondsMax)
    try {
      const [answer] = await Promise.race([
        once(worker, 'message', { signal }),
        once(worker, 'exit', { signal }).then(() => {
          throw new Error('the thread ended')
        }),
      ])
      return answer
    } catch (cause) {
      const reason = signal.aborted
        ? `it takes more than ${taskMillisecondsMax} ms`
        : 'its thread ended'
      throw new TaskFailedError(`a task failed: ${reason}`, { cause })
    } finally {
      clearTimeout(timer)
      listening.abort()
    }
  }

  #start(): Worker {
    const { entry, heapMebibytesMax } = this.#options
    const isSource = entry.pathname.endsWith('.ts')
    const worker = new Worker(isSource ? withTypeScript(entry) : entry, {
      eval: isSource,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: heapMebibytesMax },
    })
    // A server that has nothing else to do may exit.
    worker.unref()
    const forget = () => {
      if (this.#worker === worker) this.#worker = undefined
    }
    worker.on('error', forget)
    worker.on('exit', forget)
    return worker
  }

  async #end(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    await worker?.terminate()
  }
}

function closed(): TaskFailedError {
  return new TaskFailedError('the thread was closed')
}

/** Returns a program that runs a module of the sources, for tests: a build has JavaScript. */
function withTypeScript({ href }: URL): string {
  return `import('tsx/esm/api').then(({ register }) => { register(); return import('${href}') })`
}
