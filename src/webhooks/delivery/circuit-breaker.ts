import { Batcher } from '../../async/batcher.ts'
import type { Database } from '../../db/database.ts'
import { appendEvents } from '../../db/events/outbox.ts'
import { retryDeliveriesNow } from '../../db/webhooks/deliveries.ts'
import {
  type FailingWebhookRow,
  recordFailures,
  recordSuccesses,
  type WebhookFailures,
} from '../../db/webhooks/health.ts'
import { disableWebhook, incrementWebhookChangeCount } from '../../db/webhooks/webhooks.ts'
import type { DisabledReason } from '../../events/event.ts'
import { errorForOwner } from '../internal-responses.ts'
import type { Webhook } from '../webhook.ts'
import type { AttemptResult } from './send.ts'

/** When a failing webhook is paused, and when it is disabled. */
export type BreakerLimits = {
  /** Consecutive failures that open the circuit. */
  readonly failuresMax: number
  /** Time that the circuit stays open before the next attempt. A receiver can request more with `Retry-After`. */
  readonly openSeconds: number
  /** Time without a success after which the next failure disables the webhook. */
  readonly disableAfterSeconds: number
}

const LIMITS: BreakerLimits = {
  failuresMax: 5,
  openSeconds: 30,
  disableAfterSeconds: 5 * 86_400,
}
const JITTER = 0.2
const RECORDED_AT_ONCE_MAX = 256
/** Time between two writes of a success, unless a failure came between them. */
const SUCCESS_WRITE_MILLISECONDS = 10_000

export type CircuitBreakerOptions = {
  readonly db: Database
  readonly breakerLimits?: Partial<BreakerLimits>
  onDisabled?(name: string, detail: string): void
  onCommitted(): void
}

/** Pauses and disables failing webhooks. All processes share its state through the database. */
export class CircuitBreaker {
  readonly limits: BreakerLimits
  readonly #options: CircuitBreakerOptions
  readonly #failing: Batcher<WebhookFailures, FailingWebhookRow | undefined>
  readonly #succeeding: Batcher<number, undefined>
  readonly #succeededAt = new Map<number, number>()

  constructor(options: CircuitBreakerOptions) {
    this.#options = options
    this.limits = { ...LIMITS, ...options.breakerLimits }
    this.#failing = new Batcher((failing) => this.#recordFailures(failing), RECORDED_AT_ONCE_MAX)
    this.#succeeding = new Batcher(async (ids) => {
      await recordSuccesses(options.db, [...new Set(ids)])
      return ids.map(() => undefined)
    }, RECORDED_AT_ONCE_MAX)
  }

  /**
   * Records the result of an attempt. `failures` counts the consecutive failures before it. When a success closes the
   * circuit, all deliveries that wait for the webhook become due.
   */
  async record(webhook: Webhook, failures: number, result: AttemptResult): Promise<void> {
    const { id } = webhook
    if (result.outcome === 'delivered') {
      const now = performance.now()
      const last = this.#succeededAt.get(id) ?? Number.NEGATIVE_INFINITY
      if (failures === 0 && now - last < SUCCESS_WRITE_MILLISECONDS) return
      this.#succeededAt.set(id, now)
      await this.#succeeding.submit(id)
      if (failures >= this.limits.failuresMax) await retryDeliveriesNow(this.#options.db, id)
      return
    }
    this.#succeededAt.delete(id)
    const { retryAfterSeconds = 0 } = result
    const row = await this.#failing.submit({ webhookId: id, failures: 1, retryAfterSeconds })
    if (result.outcome === 'gone') {
      await this.disable(webhook, 'gone', result.error ?? '')
    } else if (row !== undefined && this.#isOverdue(row)) {
      const days = Math.floor(this.limits.disableAfterSeconds / 86_400)
      await this.disable(
        webhook,
        'failing',
        `every delivery failed for ${days} days; the last error: ${errorForOwner(result)}`,
      )
    }
  }

  /** Disables a webhook, and records the event of it. */
  async disable(webhook: Webhook, reason: DisabledReason, detail: string): Promise<void> {
    const { db, onDisabled, onCommitted } = this.#options
    const { id, name } = webhook
    const isDisabled = await db.transaction(async (tx) => {
      if (!(await disableWebhook(tx, id, `${reason}: ${detail}`))) return false
      await incrementWebhookChangeCount(tx)
      const event = { type: 'webhook.disabled', webhook: name, reason, detail } as const
      await appendEvents(tx, [{ event, repositoryId: null }])
      return true
    })
    if (!isDisabled) return
    onDisabled?.(name, detail)
    onCommitted()
  }

  #isOverdue({ failingSince }: FailingWebhookRow): boolean {
    return Date.now() - failingSince.getTime() > this.limits.disableAfterSeconds * 1000
  }

  /** Sums the failures of each webhook, so that a statement writes one row for it. */
  async #recordFailures(
    failing: readonly WebhookFailures[],
  ): Promise<(FailingWebhookRow | undefined)[]> {
    const sums = new Map<number, WebhookFailures>()
    for (const { webhookId, failures, retryAfterSeconds } of failing) {
      const sum = sums.get(webhookId)
      sums.set(webhookId, {
        webhookId,
        failures: failures + (sum?.failures ?? 0),
        retryAfterSeconds: Math.max(retryAfterSeconds, sum?.retryAfterSeconds ?? 0),
      })
    }
    const { failuresMax, openSeconds } = this.limits
    const jitter = JITTER * Math.random()
    const limits = { failuresMax, openSeconds, jitter }
    const rows = await recordFailures(this.#options.db, [...sums.values()], limits)
    const byId = new Map(rows.map((row) => [row.webhookId, row]))
    return failing.map(({ webhookId }) => byId.get(webhookId))
  }
}
