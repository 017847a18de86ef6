import { type Counted, type Elsewhere, NOWHERE_ELSE } from '../async/elsewhere.ts'
import { RegistryError, unavailable } from '../oci/errors.ts'

/** Where the limit of open connections allows as many. */
const CONNECTIONS_MAX = 10_000
const RETRY_SECONDS = 10

/** Limits the event streams and other long-lived requests of this server: their total, and those of one client address. */
export class StreamLimit {
  readonly #perAddressMax: number
  readonly #max: number
  readonly #counts = new Map<string, number>()
  readonly #open = new Set<AbortController>()
  /** Counts of the other processes of this server. */
  elsewhere: Elsewhere = NOWHERE_ELSE
  #isClosed = false

  constructor(perAddressMax: number, max: number) {
    this.#perAddressMax = perAddressMax
    this.#max = Math.min(max, CONNECTIONS_MAX)
  }

  /** The number of requests that run now in this process. */
  get count(): number {
    return this.#open.size
  }

  /** The same by address. */
  counted(): Counted {
    return { total: this.count, byClient: this.#counts }
  }

  /**
   * Runs `work`, which ends when `stopping` is aborted; `close` does that. Throws TOOMANYREQUESTS
   * above the limits, and UNAVAILABLE after `close`.
   */
  async run<T>(address: string, stopping: AbortController, work: () => Promise<T>): Promise<T> {
    const count = this.#counts.get(address) ?? 0
    if (this.#isClosed) {
      const retryAfterSeconds = RETRY_SECONDS
      throw unavailable('this server is shutting down, try again', { retryAfterSeconds })
    }
    if (this.#open.size + this.elsewhere.total >= this.#max) {
      throw tooManyClients(`${this.#max} clients already wait for events`)
    }
    if (count + this.elsewhere.of(address) >= this.#perAddressMax) {
      throw tooManyClients(`${this.#perAddressMax} clients of ${address} already wait for events`)
    }
    this.#counts.set(address, count + 1)
    this.#open.add(stopping)
    try {
      return await work()
    } finally {
      this.#open.delete(stopping)
      const left = (this.#counts.get(address) ?? 1) - 1
      if (left === 0) this.#counts.delete(address)
      else this.#counts.set(address, left)
    }
  }

  /** Ends all requests, and admits no more: clients resume at another replica. */
  close(): void {
    this.#isClosed = true
    for (const stopping of this.#open) stopping.abort()
  }
}

function tooManyClients(message: string): RegistryError {
  const retryAfterSeconds = RETRY_SECONDS
  return new RegistryError('TOOMANYREQUESTS', undefined, { message, retryAfterSeconds })
}
