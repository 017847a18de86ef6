import { LRUCache } from 'lru-cache'

/** Deliveries in flight of one webhook, in this process. A connection pool has as many connections. */
const WEBHOOK_IN_FLIGHT_MAX = 8
/** Deliveries in flight of all webhooks, in this process. */
const IN_FLIGHT_MAX = 512
// A webhook whose limit is evicted starts again with one.
const LIMITS_MAX = 10_000

/**
 * Limits the deliveries in flight, with slow start: the limit of a webhook begins at one, doubles with
 * each success and returns to one after a failure. A receiver that hangs delays no other.
 */
export class ConcurrencyLimiter {
  readonly #inFlight = new Map<number, number>()
  readonly #limits = new LRUCache<number, number>({ max: LIMITS_MAX })
  #inFlightTotal = 0

  /** Free slots of all webhooks together. */
  get free(): number {
    return IN_FLIGHT_MAX - this.#inFlightTotal
  }

  /** Free slots of one webhook. */
  freeFor(webhookId: number): number {
    return this.#limitOf(webhookId) - this.#inFlightOf(webhookId)
  }

  /** True when half of the webhook's slots are free, so that the next claim is worth its statement. */
  isHalfFree(webhookId: number): boolean {
    return this.#inFlightOf(webhookId) * 2 <= this.#limitOf(webhookId)
  }

  /** Occupies a slot. */
  acquire(webhookId: number): void {
    this.#inFlightTotal += 1
    this.#inFlight.set(webhookId, this.#inFlightOf(webhookId) + 1)
  }

  /** Frees a slot. */
  release(webhookId: number): void {
    this.#inFlightTotal -= 1
    const inFlight = this.#inFlightOf(webhookId) - 1
    if (inFlight > 0) this.#inFlight.set(webhookId, inFlight)
    else this.#inFlight.delete(webhookId)
  }

  /** Adjusts the limit of a webhook to the result of an attempt. */
  record(webhookId: number, isDelivered: boolean): void {
    const doubled = Math.min(this.#limitOf(webhookId) * 2, WEBHOOK_IN_FLIGHT_MAX)
    this.#limits.set(webhookId, isDelivered ? doubled : 1)
  }

  #inFlightOf(webhookId: number): number {
    return this.#inFlight.get(webhookId) ?? 0
  }

  #limitOf(webhookId: number): number {
    return this.#limits.get(webhookId) ?? 1
  }
}
