import { randomUUID } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { Batcher } from '../../async/batcher.ts'
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
import { RegistryError } from '../../oci/errors.ts'
import type { Webhook } from '../webhook.ts'
import type { WebhookCache } from '../webhook-cache.ts'
import { ActiveOwners, canReceive, isOwnerActive } from './authorization.ts'
import { type BreakerLimits, CircuitBreaker } from './circuit-breaker.ts'
import { ConcurrencyLimiter } from './concurrency-limiter.ts'
import { RETRY_SECONDS, secondsUntilRetry } from './retry-schedule.ts'
import { type AttemptResult, type SendOptions, send } from './send.ts'

export type DeliveryWorkerOptions = SendOptions & {
  readonly db: Database
  readonly webhooks: WebhookCache
  /** Seconds before each try. */
  readonly schedule?: readonly number[]
  readonly breaker?: Partial<BreakerLimits>
  readonly leaseSeconds?: number
  readonly pollMilliseconds?: number
  /** How long `stop` lets what runs come to its end. */
  readonly stopMilliseconds?: number
  /** Told when a delivery was tried or ended otherwise, in one word. */
  onOutcome?(outcome: string): void
  /** Told when the registry gave an endpoint up. */
  onDisabled?(name: string, detail: string): void
  /** Called when an event was committed. */
  onCommitted(): void
  onError(error: unknown): void
}

/** Longer than the longest request and the statements around it. */
const LEASE_SECONDS = 60
const POLL_MILLISECONDS = 1_000
// While much is sent, many deliveries are claimed together.
const CLAIM_EVERY_MILLISECONDS = 5
const CLAIMED_ENDPOINTS_MAX = 256
const DUE_ENDPOINTS_MAX = 10_000
const SETTLED_AT_ONCE_MAX = 256
const SETTLE_TRIES_MAX = 3
const PING_SECONDS = [0]
const SETTLE_AGAIN_MILLISECONDS = 200
const STOP_MILLISECONDS_MAX = 5_000

/**
 * Sends what is due. What it holds is leased: when the process dies, others send it again after a
 * while, with the same id. Nothing is kept only in memory.
 */
export class DeliveryWorker {
  readonly #options: DeliveryWorkerOptions
  readonly #leaseSeconds: number
  readonly #breakers: CircuitBreaker
  readonly #standing: ActiveOwners
  readonly #settling: Batcher<DeliveryResult, undefined>
  readonly #slots = new ConcurrencyLimiter()
  readonly #wanted = new Set<number>()
  // Endpoints that may have more due than they had room for.
  readonly #more = new Set<number>()
  readonly #running = new Map<Promise<void>, ClaimedDelivery>()
  readonly #abort = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #claiming: Promise<void> | undefined
  #asked = false
  #stopped = false
  #lastError: unknown

  constructor(options: DeliveryWorkerOptions) {
    this.#options = options
    this.#leaseSeconds = options.leaseSeconds ?? LEASE_SECONDS
    this.#breakers = new CircuitBreaker(options)
    this.#standing = new ActiveOwners(options.db)
    this.#settling = new Batcher((results) => this.#settle(results), SETTLED_AT_ONCE_MAX)
    // Each request listens to it; DeliverySlots says how many there are.
    setMaxListeners(0, this.#abort.signal)
  }

  /** Looks now, and from then on each second. */
  start(): void {
    const every = this.#options.pollMilliseconds ?? POLL_MILLISECONDS
    this.#timer = setInterval(() => this.poll(), every)
    this.#timer.unref()
    this.poll()
  }

  /** Something is due, for whomever. */
  poll(): void {
    void this.#look().catch((error) => this.#fail(error))
  }

  /** Something is due for these endpoints. */
  poke(webhookIds: Iterable<number>): void {
    for (const id of webhookIds) this.#wanted.add(id)
    this.#pump()
  }

  /** Claims nothing more; what runs may end, and what does not is left to others. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    const ended = (async () => {
      await this.#claiming
      await Promise.all(this.#running.keys())
    })()
    const milliseconds = this.#options.stopMilliseconds ?? STOP_MILLISECONDS_MAX
    await Promise.race([ended, delay(milliseconds, undefined, { ref: false })])
    const left = [...this.#running.values()]
    this.#abort.abort()
    await Promise.race([ended, delay(SETTLE_AGAIN_MILLISECONDS, undefined, { ref: false })])
    // What was settled after all has no lease any more.
    await this.#release(left)
  }

  async #look(): Promise<void> {
    if (this.#stopped) return
    this.poke(await listDueWebhooks(this.#options.db, DUE_ENDPOINTS_MAX))
  }

  /** Many deliveries wait for one statement: when it fails, that is told once. */
  #fail(error: unknown): void {
    if (this.#stopped || error === this.#lastError) return
    this.#lastError = error
    this.#options.onError(error)
  }

  #pump(): void {
    this.#asked = true
    if (this.#claiming !== undefined || this.#stopped) return
    this.#claiming = this.#claimAll()
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#claiming = undefined
      })
  }

  async #claimAll(): Promise<void> {
    while (this.#asked && !this.#stopped) {
      this.#asked = false
      if (await this.#claimSome()) this.#asked = true
      if (this.#asked) await delay(CLAIM_EVERY_MILLISECONDS)
    }
  }

  /** True when there is more to claim at once. */
  async #claimSome(): Promise<boolean> {
    if (this.#slots.free <= 0 || this.#wanted.size === 0) return false
    const known = await this.#options.webhooks.current()
    const endpoints = this.#choose(known)
    if (endpoints.length === 0) return false
    const owned = endpoints.flatMap(({ webhookId }) => known.get(webhookId) ?? [])
    const standing = await this.#standing.listActive(owned)
    const claimed = await claimDeliveries(this.#options.db, {
      lease: randomUUID(),
      leaseSeconds: this.#leaseSeconds,
      webhooks: endpoints,
      failuresMax: this.#breakers.limits.failuresMax,
    })
    const counts = new Map<number, number>()
    for (const { webhookId } of claimed) counts.set(webhookId, (counts.get(webhookId) ?? 0) + 1)
    for (const { webhookId, slots } of endpoints) {
      if (counts.get(webhookId) === slots) this.#more.add(webhookId)
    }
    if (this.#stopped) await this.#release(claimed)
    else for (const one of claimed) this.#begin(one, known.get(one.webhookId), standing)
    return this.#wanted.size > 0 && this.#slots.free > 0
  }

  /** Takes endpoints that are wanted and have room, the one that has waited longest first. */
  #choose(known: ReadonlyMap<number, Webhook>): { webhookId: number; slots: number }[] {
    const chosen: { webhookId: number; slots: number }[] = []
    let left = this.#slots.free
    for (const webhookId of this.#wanted) {
      if (left === 0 || chosen.length === CLAIMED_ENDPOINTS_MAX) break
      this.#wanted.delete(webhookId)
      if (known.get(webhookId)?.state !== 'active') continue
      const slots = Math.min(this.#slots.freeFor(webhookId), left)
      if (slots > 0) {
        chosen.push({ webhookId, slots })
        left -= slots
      } else {
        // It comes back when enough of what is under way has ended.
        this.#more.add(webhookId)
      }
    }
    return chosen
  }

  #begin(
    delivery: ClaimedDelivery,
    endpoint: Webhook | undefined,
    standing: ReadonlySet<string>,
  ): void {
    const { webhookId } = delivery
    this.#slots.acquire(webhookId)
    const running = this.#deliver(delivery, endpoint, standing)
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#running.delete(running)
        this.#slots.release(webhookId)
        if (this.#slots.isHalfFree(webhookId) && this.#more.delete(webhookId)) {
          this.poke([webhookId])
        } else if (this.#wanted.size > 0) {
          this.#pump()
        }
      })
    this.#running.set(running, delivery)
  }

  async #deliver(
    delivery: ClaimedDelivery,
    endpoint: Webhook | undefined,
    standing: ReadonlySet<string>,
  ): Promise<void> {
    // Taken away meanwhile.
    if (endpoint === undefined) return this.#end(delivery, 'pending')
    if (!isOwnerActive(endpoint.owner, standing)) {
      const detail = `what ${endpoint.name} was made with does not hold any more`
      await this.#breakers.disable(endpoint, 'owner', detail)
      return this.#end(delivery, 'pending')
    }
    if (!canReceive(endpoint.owner, delivery)) return this.#end(delivery, 'refused')
    if (isLate(endpoint, delivery)) return this.#end(delivery, 'expired')
    if (delivery.superseded) return this.#end(delivery, 'superseded')
    const sent = await send(this.#options, endpoint, delivery, this.#abort.signal)
    // Cut off by our own end: somebody else sends it.
    if (this.#abort.signal.aborted && sent.status === null) return
    this.#options.onOutcome?.(sent.outcome)
    await this.#settling.submit(this.#resultOf(delivery, sent))
    // Receivers that know only images refuse a ping, and that says nothing of them.
    const isRefusedPing = delivery.type === 'webhook.ping' && sent.outcome === 'failed'
    if (!isRefusedPing) await this.#breakers.record(endpoint, delivery.failures, sent)
    const isDelivered = sent.outcome === 'delivered'
    this.#slots.record(endpoint.id, isDelivered)
    // It was tried with one: now it gets the others.
    if (isDelivered && delivery.failures > 0) this.#more.add(endpoint.id)
  }

  /** Nothing was sent. */
  async #end(delivery: ClaimedDelivery, state: DeliveryState): Promise<void> {
    const { webhookId, position, lease, roundAttempts } = delivery
    if (state !== 'pending') this.#options.onOutcome?.(state)
    const result = { webhookId, position, lease, state, roundAttempts, delaySeconds: 0 }
    await this.#settling.submit({ ...result, attempt: undefined })
  }

  #resultOf(delivery: ClaimedDelivery, sent: AttemptResult): DeliveryResult {
    const { webhookId, position, lease } = delivery
    const { outcome, retryAfterSeconds, ...attempt } = sent
    const roundAttempts = delivery.roundAttempts + 1
    // Somebody waits for what comes of a ping, and nobody for another.
    const schedule =
      delivery.type === 'webhook.ping' ? PING_SECONDS : (this.#options.schedule ?? RETRY_SECONDS)
    const seconds =
      outcome === 'delivered'
        ? undefined
        : secondsUntilRetry(roundAttempts, retryAfterSeconds, schedule)
    const state =
      outcome === 'delivered' ? 'delivered' : seconds === undefined ? 'failed' : 'pending'
    const delaySeconds = seconds ?? 0
    return { webhookId, position, lease, state, roundAttempts, delaySeconds, attempt }
  }

  async #settle(results: readonly DeliveryResult[]): Promise<undefined[]> {
    const until = performance.now() + this.#leaseSeconds * 1000
    for (let tries = 1; ; tries += 1) {
      try {
        await settleDeliveries(this.#options.db, results)
        return results.map(() => undefined)
      } catch (error) {
        // While the database is away, what was delivered is worth remembering. When the lease has run
        // out, it is sent once more: better than not at all.
        const isAway = error instanceof RegistryError && error.code === 'UNAVAILABLE'
        const isOver = isAway ? performance.now() > until : tries === SETTLE_TRIES_MAX
        if (isOver || this.#stopped) throw error
        await delay(SETTLE_AGAIN_MILLISECONDS)
      }
    }
  }

  async #release(claimed: readonly ClaimedDelivery[]): Promise<void> {
    if (claimed.length === 0) return
    // Else their leases run out.
    await releaseDeliveries(this.#options.db, claimed).catch(() => {})
  }
}

/** What somebody asked for again is as old as that. */
function isLate(
  { maxAgeSeconds }: Webhook,
  { occurredAt, redeliveredAt: askedAt }: ClaimedDelivery,
): boolean {
  const age = Date.now() - (askedAt ?? occurredAt).getTime()
  return maxAgeSeconds !== null && age > maxAgeSeconds * 1000
}
