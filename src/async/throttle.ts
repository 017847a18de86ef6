import { setTimeout as delay } from 'node:timers/promises'

// Shorter waits than this are not worth a timer.
const WAIT_MILLISECONDS_MIN = 5

/** A byte rate that several streams share, so that background work leaves disk and network to others. */
export class Throttle {
  readonly #bytesPerSecond: number
  #readyAt = performance.now()

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Yields the chunks at the rate of the throttle. Throws when the signal is aborted. */
  async *limit(chunks: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      signal.throwIfAborted()
      yield chunk
      const now = performance.now()
      this.#readyAt = Math.max(this.#readyAt, now) + (chunk.length / this.#bytesPerSecond) * 1000
      const wait = this.#readyAt - now
      if (wait > WAIT_MILLISECONDS_MIN) {
        await delay(wait, undefined, { signal }).catch(() => signal.throwIfAborted())
      }
    }
  }
}
