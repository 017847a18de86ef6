import { LRUCache } from 'lru-cache'

/** Of one endpoint at once, by this process. Connections of a pool are as many. */
const ENDPOINT_IN_FLIGHT_MAX = 8
/** Of all endpoints at once, by this process. */
const IN_FLIGHT_MAX = 512
// Whoever is forgotten begins with one again.
const WIDTHS_MAX = 10_000

/**
 * How many deliveries are under way, and how many more may be. An endpoint begins with one at once, and
 * each that it takes doubles that; one that fails has one again. So those that hang hold up nobody else.
 */
export class ConcurrencyLimiter {
  readonly #busy = new Map<number, number>()
  readonly #widths = new LRUCache<number, number>({ max: WIDTHS_MAX })
  #all = 0

  /** Of all endpoints together. */
  get free(): number {
    return IN_FLIGHT_MAX - this.#all
  }

  /** Of one endpoint. */
  freeFor(webhookId: number): number {
    return this.#widthOf(webhookId) - this.#busyOf(webhookId)
  }

  /** True when so many have ended that it is worth to claim the next ones. */
  isHalfFree(webhookId: number): boolean {
    return this.#busyOf(webhookId) * 2 <= this.#widthOf(webhookId)
  }

  acquire(webhookId: number): void {
    this.#all += 1
    this.#busy.set(webhookId, this.#busyOf(webhookId) + 1)
  }

  release(webhookId: number): void {
    this.#all -= 1
    const busy = this.#busyOf(webhookId) - 1
    if (busy > 0) this.#busy.set(webhookId, busy)
    else this.#busy.delete(webhookId)
  }

  /** What came of one that was sent. */
  record(webhookId: number, isDelivered: boolean): void {
    const wider = Math.min(this.#widthOf(webhookId) * 2, ENDPOINT_IN_FLIGHT_MAX)
    this.#widths.set(webhookId, isDelivered ? wider : 1)
  }

  #busyOf(webhookId: number): number {
    return this.#busy.get(webhookId) ?? 0
  }

  #widthOf(webhookId: number): number {
    return this.#widths.get(webhookId) ?? 1
  }
}
