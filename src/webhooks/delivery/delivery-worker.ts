import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Batcher } from '../../async/batcher.ts'
import { Loop } from '../../async/loop.ts'
import type { Database } from '../../db/database.ts'
import type { DeliveryState } from '../../db/webhooks/deliveries.ts'
import {
  type ClaimedDelivery,
  claimDeliveries,
  type DeliveryResult,
  listDueWebhooks,
  releaseDeliveries,
  settleDeliveries,
} from '../../db/webhooks/delivery-claims.ts'
import { endProbe } from '../../db/webhooks/health.ts'
import { typesOfTemplate } from '../../events/body-template.ts'
import { CD_EVENT_TYPES, isCdEventsFormat, renderCdEvent } from '../../events/cd-event.ts'
import { RegistryError } from '../../oci/errors.ts'
import { canReceive } from '../event-access.ts'
import type { Webhook } from '../webhook.ts'
import type { WebhookCache } from '../webhook-cache.ts'
import { ActiveOwners, isOwnerActive } from './active-owners.ts'
import { type BreakerLimits, CircuitBreaker } from './circuit-breaker.ts'
import { ConcurrencyLimiter } from './concurrency-limiter.ts'
import { RETRY_SECONDS, secondsUntilRetry, waitOf } from './retry-schedule.ts'
import { type AttemptResult, type SendOptions, send } from './send.ts'

export type DeliveryWorkerOptions = SendOptions & {
  readonly db: Database
  readonly webhooks: WebhookCache
  /** Seconds before each attempt. */
  readonly retrySeconds?: readonly number[]
  readonly breakerLimits?: Partial<BreakerLimits>
  readonly leaseSeconds?: number
  readonly pollMilliseconds?: number
  /** Time that `stop` waits for deliveries in flight. */
  readonly stopMilliseconds?: number
  /** Receives the outcome of each delivery, in one word. */
  onOutcome?(outcome: string): void
  /** Runs when the registry disabled a webhook. */
  onDisabled?(name: string, detail: string): void
  /** Runs when an event was committed. */
  onCommitted(): void
  onError(error: unknown): void
}

/** Longer than the longest request and the statements around it. */
const LEASE_SECONDS = 60
const POLL_MILLISECONDS = 1_000
// Under load, one statement claims many deliveries.
const CLAIM_PAUSE_MILLISECONDS = 5
const CLAIMED_WEBHOOKS_MAX = 256
const DUE_WEBHOOKS_MAX = 10_000
const SETTLED_AT_ONCE_MAX = 256
const SETTLE_ATTEMPTS_MAX = 3
const SETTLE_PAUSE_MILLISECONDS = 200
// A user waits for the result of a ping, and no one for a retry of it.
const PING_RETRY_SECONDS = [0]
const STOP_MILLISECONDS_MAX = 5_000

/**
 * Sends due deliveries. Each one is leased: when this process dies, another sends it after the lease
 * ends, with the same id. No delivery is kept only in memory.
 */
export class DeliveryWorker {
  readonly #options: DeliveryWorkerOptions
  readonly #leaseSeconds: number
  readonly #stopMilliseconds: number
  readonly #breaker: CircuitBreaker
  readonly #activeOwners: ActiveOwners
  readonly #results: Batcher<DeliveryResult, undefined>
  readonly #limiter = new ConcurrencyLimiter()
  readonly #polling: Loop
  readonly #claiming: Loop
  /** Webhooks with due deliveries; the one that has waited longest is first. */
  readonly #due = new Set<number>()
  /** Webhooks that may have more due deliveries than the limiter let them send. */
  readonly #backlogged = new Set<number>()
  readonly #inFlight = new Map<Promise<void>, ClaimedDelivery>()
  readonly #abort = new AbortController()
  #isStopping = false
  #lastError: unknown

  constructor(options: DeliveryWorkerOptions) {
    this.#options = options
    this.#leaseSeconds = options.leaseSeconds ?? LEASE_SECONDS
    this.#stopMilliseconds = options.stopMilliseconds ?? STOP_MILLISECONDS_MAX
    this.#breaker = new CircuitBreaker(options)
    this.#activeOwners = new ActiveOwners(options.db)
    this.#results = new Batcher((results) => this.#settle(results), SETTLED_AT_ONCE_MAX)
    const onError = (error: unknown) => this.#reportError(error)
    const stopSecondsMax = this.#stopMilliseconds / 1000
    this.#polling = new Loop({
      work: async () => {
        const { failuresMax } = this.#breaker.limits
        this.poke(await listDueWebhooks(options.db, DUE_WEBHOOKS_MAX, failuresMax))
      },
      everySeconds: (options.pollMilliseconds ?? POLL_MILLISECONDS) / 1000,
      stopSecondsMax,
      onError,
    })
    this.#claiming = new Loop({ work: () => this.#claim(), stopSecondsMax, onError })
    // Each request listens to the signal; the limiter bounds their number.
    setMaxListeners(0, this.#abort.signal)
  }

  /** Polls for due deliveries now, and from then on every second. */
  start(): void {
    this.#polling.start()
  }

  /** Polls for due deliveries of all webhooks now. */
  poll(): void {
    this.#polling.poke()
  }

  /** Sends due deliveries of these webhooks. */
  poke(webhookIds: Iterable<number>): void {
    for (const id of webhookIds) this.#due.add(id)
    this.#claiming.poke()
  }

  /** Claims no more deliveries, waits for those in flight, and releases the rest to other processes. */
  async stop(): Promise<void> {
    this.#isStopping = true
    const ended = (async () => {
      await Promise.all([this.#polling.stop(), this.#claiming.stop()])
      await Promise.all(this.#inFlight.keys())
    })()
    await Promise.race([ended, delay(this.#stopMilliseconds, undefined, { ref: false })])
    const unfinished = [...this.#inFlight.values()]
    this.#abort.abort()
    await Promise.race([ended, delay(SETTLE_PAUSE_MILLISECONDS, undefined, { ref: false })])
    // A delivery that was settled meanwhile has no lease, so it is not released.
    await this.#release(unfinished)
  }

  /** Reports an error once: one failed statement fails many deliveries. */
  #reportError(error: unknown): void {
    if (this.#isStopping || error === this.#lastError) return
    this.#lastError = error
    this.#options.onError(error)
  }

  /** Claims and begins deliveries. Pokes the loop when there may be more. */
  async #claim(): Promise<void> {
    if (this.#limiter.free <= 0 || this.#due.size === 0) return
    const cached = await this.#options.webhooks.current()
    const chosen = this.#chooseWebhooks(cached)
    if (chosen.length === 0) return
    const webhooks = chosen.flatMap(({ webhookId }) => cached.get(webhookId) ?? [])
    const activeOrigins = await this.#activeOwners.listActive(webhooks)
    const claimed = await claimDeliveries(this.#options.db, {
      lease: randomUUID(),
      leaseSeconds: this.#leaseSeconds,
      webhooks: chosen,
      failuresMax: this.#breaker.limits.failuresMax,
      openSeconds: Math.min(this.#leaseSeconds, this.#breaker.limits.openSeconds),
    })
    const counts = new Map<number, number>()
    for (const { webhookId } of claimed) counts.set(webhookId, (counts.get(webhookId) ?? 0) + 1)
    for (const { webhookId, slots } of chosen) {
      if (counts.get(webhookId) === slots) this.#backlogged.add(webhookId)
    }
    if (this.#isStopping) return this.#release(claimed)
    for (const one of claimed) this.#begin(one, cached.get(one.webhookId), activeOrigins)
    if (this.#due.size > 0 && this.#limiter.free > 0) this.#claiming.poke()
    await delay(CLAIM_PAUSE_MILLISECONDS)
  }

  /** Chooses due webhooks that the limiter has slots for. */
  #chooseWebhooks(cached: ReadonlyMap<number, Webhook>): { webhookId: number; slots: number }[] {
    const chosen: { webhookId: number; slots: number }[] = []
    let free = this.#limiter.free
    for (const webhookId of this.#due) {
      if (free === 0 || chosen.length === CLAIMED_WEBHOOKS_MAX) break
      this.#due.delete(webhookId)
      if (cached.get(webhookId)?.state !== 'active') continue
      const slots = Math.min(this.#limiter.freeFor(webhookId), free)
      if (slots > 0) {
        chosen.push({ webhookId, slots })
        free -= slots
      } else {
        // It becomes due again when half of its slots are free.
        this.#backlogged.add(webhookId)
      }
    }
    return chosen
  }

  #begin(
    delivery: ClaimedDelivery,
    webhook: Webhook | undefined,
    activeOrigins: ReadonlySet<string>,
  ): void {
    const { webhookId } = delivery
    this.#limiter.acquire(webhookId)
    const running = this.#deliver(delivery, webhook, activeOrigins)
      .catch((error) => this.#reportError(error))
      .finally(() => {
        this.#inFlight.delete(running)
        this.#limiter.release(webhookId)
        if (this.#limiter.isHalfFree(webhookId) && this.#backlogged.delete(webhookId)) {
          this.poke([webhookId])
        } else if (this.#due.size > 0) {
          this.#claiming.poke()
        }
      })
    this.#inFlight.set(running, delivery)
  }

  async #deliver(
    delivery: ClaimedDelivery,
    webhook: Webhook | undefined,
    activeOrigins: ReadonlySet<string>,
  ): Promise<void> {
    // The webhook was removed after the claim.
    if (webhook === undefined) return this.#end(delivery, 'pending')
    if (!isOwnerActive(webhook.owner, activeOrigins)) {
      const detail = `the credential, trust policy or token that owns ${webhook.name} has ended`
      await this.#breaker.disable(webhook, 'owner', detail)
      return this.#end(delivery, 'pending')
    }
    if (!canReceive(webhook.owner, delivery)) return this.#end(delivery, 'refused')
    if (!canRender(webhook, delivery)) return this.#end(delivery, 'refused')
    if (isExpired(webhook, delivery)) return this.#end(delivery, 'expired')
    if (delivery.superseded) return this.#end(delivery, 'superseded')
    const result = await send(this.#options, webhook, delivery, this.#abort.signal)
    // `stop` cut off the request: another process sends the delivery.
    if (this.#abort.signal.aborted && result.status === null) return
    this.#options.onOutcome?.(result.outcome)
    await this.#results.submit(this.#deliveryResult(delivery, result))
    // Receivers that accept image events only refuse a ping, so its failure says nothing about their health.
    const isRefusedPing = delivery.type === 'webhook.ping' && result.outcome === 'failed'
    if (!isRefusedPing) await this.#breaker.record(webhook, delivery.failures, result)
    const isDelivered = result.outcome === 'delivered'
    this.#limiter.record(webhook.id, isDelivered)
    // A success after failures closes the circuit: the other deliveries of the webhook are due.
    if (isDelivered && delivery.failures > 0) this.#backlogged.add(webhook.id)
  }

  /** Ends a delivery without a request, or returns it to the queue. */
  async #end(delivery: ClaimedDelivery, state: DeliveryState): Promise<void> {
    const { webhookId, position, lease, roundAttempts } = delivery
    if (state !== 'pending') this.#options.onOutcome?.(state)
    const result = { webhookId, position, lease, state, roundAttempts, delaySeconds: 0 }
    await this.#results.submit({ ...result, attempt: undefined })
    // The circuit was opened for an attempt that is not made.
    if (state !== 'pending' && delivery.failures >= this.#breaker.limits.failuresMax) {
      await endProbe(this.#options.db, webhookId)
      this.#backlogged.add(webhookId)
    }
  }

  #deliveryResult(delivery: ClaimedDelivery, result: AttemptResult): DeliveryResult {
    const { webhookId, position, lease } = delivery
    const { outcome, retryAfterSeconds, ...attempt } = result
    const { earlySeconds } = delivery
    if (earlySeconds > 0 && outcome !== 'delivered') {
      // It is no attempt of the schedule, which continues.
      const delaySeconds = Math.max(earlySeconds, waitOf(retryAfterSeconds))
      const { roundAttempts } = delivery
      return { webhookId, position, lease, state: 'pending', roundAttempts, delaySeconds, attempt }
    }
    const roundAttempts = delivery.roundAttempts + 1
    const schedule =
      delivery.type === 'webhook.ping'
        ? PING_RETRY_SECONDS
        : (this.#options.retrySeconds ?? RETRY_SECONDS)
    const failed = {
      attempts: roundAttempts,
      ageSeconds: ageMilliseconds(delivery) / 1000,
      retryAfterSeconds,
    }
    const seconds = outcome === 'delivered' ? undefined : secondsUntilRetry(failed, schedule)
    const state =
      outcome === 'delivered' ? 'delivered' : seconds === undefined ? 'failed' : 'pending'
    const delaySeconds = seconds ?? 0
    return { webhookId, position, lease, state, roundAttempts, delaySeconds, attempt }
  }

  async #settle(results: readonly DeliveryResult[]): Promise<undefined[]> {
    const leaseEndsAt = performance.now() + this.#leaseSeconds * 1000
    for (let attempts = 1; ; attempts += 1) {
      try {
        await settleDeliveries(this.#options.db, results)
        return results.map(() => undefined)
      } catch (error) {
        // While the database is unavailable, the results are kept in memory until the lease ends. After that
        // the deliveries are sent once more, which is better than not at all.
        const isUnavailable = error instanceof RegistryError && error.code === 'UNAVAILABLE'
        const isLast = isUnavailable
          ? performance.now() > leaseEndsAt
          : attempts === SETTLE_ATTEMPTS_MAX
        if (isLast || this.#isStopping) throw error
        await delay(SETTLE_PAUSE_MILLISECONDS)
      }
    }
  }

  async #release(claimed: readonly ClaimedDelivery[]): Promise<void> {
    if (claimed.length === 0) return
    // When this fails, other processes wait until the leases end.
    await releaseDeliveries(this.#options.db, claimed).catch(() => {})
  }
}

/** A webhook whose body does not fit the type of an event got it when its settings were others, or in a test. */
function canRender({ body, format }: Webhook, { type, body: event }: ClaimedDelivery): boolean {
  if (body !== null) return typesOfTemplate(body).includes(type)
  if (!isCdEventsFormat(format)) return true
  return CD_EVENT_TYPES.includes(type) && renderCdEvent(event, format) !== undefined
}

function isExpired({ maxAgeSeconds }: Webhook, delivery: ClaimedDelivery): boolean {
  return maxAgeSeconds !== null && ageMilliseconds(delivery) > maxAgeSeconds * 1000
}

/** Returns the age of an event. That of a redelivered event counts from the redelivery. */
function ageMilliseconds({ occurredAt, redeliveredAt }: ClaimedDelivery): number {
  return Date.now() - (redeliveredAt ?? occurredAt).getTime()
}
