import cluster, { type Worker } from 'node:cluster'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { StartError } from '../cleanup.ts'
import type { Log } from '../log.ts'
import type { Leave } from '../readiness.ts'
import { YOUNG_GENERATION_SMALL } from '../young-generation.ts'
import type { ToPrimary, ToWorker, WorkerStart } from './messages.ts'
import type { PrimaryChannel } from './primary-channel.ts'

export type WorkerSetOptions = {
  readonly count: number
  readonly start: WorkerStart
  readonly channel: PrimaryChannel
  /** Seconds that a worker may take to end its requests. */
  readonly drainSeconds: number
  readonly log: Log
}

const ENTRY = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts') ? './worker-entry.ts' : './worker-entry.js',
    import.meta.url,
  ),
)
/** From the fork of a worker until it listens. */
const START_SECONDS_MAX = 120
/** In addition to the drain: handlers, and the connections to Postgres. */
const STOP_EXTRA_SECONDS = 15
/** A client that keeps a connection alive sends its next request to a worker that is replaced for this time. */
const IDLE_SECONDS = 5
/** A worker that ends is replaced at once, and after so many within LOSSES_SECONDS with a pause. */
const LOSSES_MAX = 5
const LOSSES_SECONDS = 60
const PAUSE_SECONDS = 5

type Running = {
  readonly worker: Worker
  /** Resolves with the URL when it listens. Rejects with StartError. */
  readonly listening: Promise<string>
  readonly ended: Promise<void>
  /** True when it listens to messages. */
  isLoaded: boolean
  isListening: boolean
  isStopping: boolean
}

/** The workers of a server: processes that answer requests on one address, which node:cluster shares out. */
export class WorkerSet {
  readonly #options: WorkerSetOptions
  readonly #running = new Set<Running>()
  readonly #losses: number[] = []
  #isClosed = false
  #replacing: Promise<void> | undefined
  #isReplacedAgain = false

  constructor(options: WorkerSetOptions) {
    this.#options = options
    // Workers accept by themselves: a connection that the primary hands to a worker which is just killed would never be answered.
    cluster.schedulingPolicy = cluster.SCHED_NONE
    const execArgv = [...process.execArgv, YOUNG_GENERATION_SMALL]
    cluster.setupPrimary({ exec: ENTRY, args: [], execArgv })
  }

  /** Starts all workers. Returns the URL on which they listen. Throws StartError when one of them cannot start. */
  async start(): Promise<string> {
    const { count } = this.#options
    const started = Array.from({ length: count }, () => this.#fork())
    const urls = await Promise.all(started.map(({ listening }) => listening))
    return urls[0] ?? ''
  }

  /** Replaces all workers, one after the other: a new one listens before an old one stops. */
  replaceAll(): Promise<void> {
    this.#isReplacedAgain = this.#replacing !== undefined
    this.#replacing ??= this.#replaceRepeatedly().finally(() => {
      this.#replacing = undefined
    })
    return this.#replacing
  }

  /** Stops all workers. `delaySeconds`: time for which they are not ready before. */
  async stop(delaySeconds = 0): Promise<void> {
    this.#isClosed = true
    const leave = { delaySeconds, idleSeconds: 0 }
    await Promise.all([...this.#running].map((one) => this.#stopOne(one, leave)))
  }

  async #replaceRepeatedly(): Promise<void> {
    const { log } = this.#options
    do {
      this.#isReplacedAgain = false
      const old = [...this.#running]
      log.info({ workers: old.length }, 'replacing the workers')
      for (const one of old) {
        if (this.#isClosed) return
        if (one.isStopping) continue
        if (!(await this.#replace(one))) return
      }
      log.info({ workers: this.#running.size }, 'replaced the workers')
    } while (this.#isReplacedAgain)
  }

  async #replace(old: Running): Promise<boolean> {
    const next = this.#fork()
    try {
      await next.listening
    } catch (error) {
      this.#options.log.error({ err: error }, 'a new worker cannot start: the old one stays')
      return false
    }
    await this.#stopOne(old, { delaySeconds: 0, idleSeconds: IDLE_SECONDS })
    return true
  }

  #fork(): Running {
    const { channel, start, log } = this.#options
    const worker = cluster.fork()
    const reachable = { id: worker.id, send: (message: ToWorker) => send(worker, message) }
    let leave = () => {}
    const ended = new Promise<void>((resolve) => {
      leave = resolve
    })
    const listening = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new StartError(`a worker did not start within ${START_SECONDS_MAX} s`))
        worker.process.kill('SIGKILL')
      }, START_SECONDS_MAX * 1000)
      worker.on('message', (message: ToPrimary) => {
        if (message.kind === 'loaded') {
          running.isLoaded = true
          channel.add(reachable)
          reachable.send({ kind: 'start', start })
        } else if (message.kind === 'listening') {
          clearTimeout(timer)
          running.isListening = true
          resolve(message.url)
        } else if (message.kind === 'failed') reject(new StartError(message.message))
        else channel.receive(reachable, message)
      })
      worker.once('exit', (code, signal) => {
        clearTimeout(timer)
        channel.remove(reachable)
        this.#running.delete(running)
        reject(new StartError(`a worker ended while it started (${signal ?? `status ${code}`})`))
        leave()
        // One that did not listen yet is the concern of those who wait for it.
        if (!running.isListening || running.isStopping || this.#isClosed) return
        log.error({ code, signal }, 'a worker ended, starting another')
        void this.#startAgain()
      })
    })
    // A failure is handled where it is awaited.
    listening.catch(() => {})
    const running: Running = {
      ...{ worker, listening, ended },
      ...{ isLoaded: false, isListening: false, isStopping: false },
    }
    this.#running.add(running)
    return running
  }

  async #startAgain(): Promise<void> {
    const now = performance.now()
    this.#losses.push(now)
    for (;;) {
      const recent = this.#losses.filter((at) => now - at < LOSSES_SECONDS * 1000)
      if (recent.length > LOSSES_MAX) await delay(PAUSE_SECONDS * 1000)
      if (this.#isClosed) return
      const next = this.#fork()
      try {
        await next.listening
        return
      } catch (error) {
        if (this.#isClosed) return
        this.#options.log.error({ err: error }, 'a worker cannot start, retrying')
        await delay(PAUSE_SECONDS * 1000)
      }
    }
  }

  async #stopOne(one: Running, leave: Leave): Promise<void> {
    one.isStopping = true
    if (one.isLoaded) send(one.worker, { kind: 'stop', leave })
    else one.worker.process.kill('SIGKILL')
    const seconds = leave.delaySeconds + this.#options.drainSeconds + STOP_EXTRA_SECONDS
    const timer = setTimeout(() => {
      this.#options.log.error({ seconds }, 'a worker took too long to stop')
      one.worker.process.kill('SIGKILL')
    }, seconds * 1000)
    await one.ended
    clearTimeout(timer)
  }
}

/** Sends a message to a worker that may have ended. */
function send(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message, () => {})
}
