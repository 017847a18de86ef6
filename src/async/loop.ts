export type LoopOptions = {
  /** One run. It returns early when the signal is aborted, which `stop` does. */
  work(signal: AbortSignal): Promise<void>
  /** Receives the failures of runs; the loop continues. A run that fails because of `stop` is not reported. */
  onError(error: unknown): void
  /** Time between the starts of two runs. Undefined: the loop runs only when it is poked. */
  readonly everySeconds?: number
  /** Time that `stop` waits for the run in progress. */
  readonly stopSecondsMax?: number
}

// Longer than a store that answers needs. Work that is cut off is repeated by the next process.
const STOP_SECONDS_MAX = 5

/**
 * Repeats work in the background, never twice at once: on a timer, when poked, or both. Pokes that
 * arrive during a run are joined into one more run; timer ticks during a run are ignored.
 */
export class Loop {
  readonly #options: LoopOptions
  readonly #stopping = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #isPoked = false
  #settling: (() => void)[] = []

  constructor(options: LoopOptions) {
    this.#options = options
  }

  /** Runs now and from then on by the timer. Returns the loop. */
  start(): this {
    const { everySeconds } = this.#options
    if (everySeconds !== undefined) {
      this.#timer = setInterval(() => {
        if (this.#running === undefined) this.poke()
      }, everySeconds * 1000)
      this.#timer.unref()
    }
    this.poke()
    return this
  }

  /** Runs now, or once more after the run in progress. Does nothing after `stop`. */
  poke(): void {
    if (this.#stopping.signal.aborted) return
    this.#isPoked = true
    this.#running ??= this.#run()
  }

  /** Pokes, and resolves when a run that began after this call has ended, or the loop has stopped. */
  async settle(): Promise<void> {
    if (this.#stopping.signal.aborted) return
    const settled = new Promise<void>((resolve) => this.#settling.push(resolve))
    this.poke()
    await settled
  }

  /** Ends the loop. Waits for the run in progress, at most `stopSecondsMax`. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#stopping.abort()
    if (this.#running === undefined) return
    const { stopSecondsMax = STOP_SECONDS_MAX } = this.#options
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, stopSecondsMax * 1000).unref()
    })
    await Promise.race([this.#running, late])
    clearTimeout(timer)
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (this.#isPoked && !signal.aborted) {
      this.#isPoked = false
      const settling = this.#settling.splice(0)
      try {
        await this.#options.work(signal)
      } catch (error) {
        if (!signal.aborted) this.#options.onError(error)
      }
      for (const settle of settling) settle()
    }
    for (const settle of this.#settling.splice(0)) settle()
    this.#running = undefined
  }
}
