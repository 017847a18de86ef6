import { Batcher } from '../../async/batcher.ts'
import type { Database } from '../../db/database.ts'
import { incrementWebhookChangeCount } from '../../db/endpoints.ts'
import { appendEvents } from '../../db/events/outbox.ts'
import {
  disableWebhook,
  type FailingWebhookRow,
  recordFailures,
  recordSuccesses,
  type WebhookFailures,
} from '../../db/webhooks/health.ts'
import type { DisabledReason } from '../../events/event.ts'
import type { Webhook } from '../webhook.ts'
import type { AttemptResult } from './send.ts'

/** When an endpoint that fails is left alone, and when for good. */
export type BreakerLimits = {
  /** Failures in a row. */
  readonly failuresMax: number
  readonly seconds: number
  readonly secondsMax: number
  /** Without one success, and failing still. */
  readonly disableAfterSeconds: number
}

const LIMITS: BreakerLimits = {
  failuresMax: 5,
  seconds: 30,
  secondsMax: 600,
  disableAfterSeconds: 5 * 86_400,
}
const JITTER = 0.2
const NOTED_AT_ONCE_MAX = 256
/** A success is written at most so often, unless failures came before it. */
const SUCCESS_MILLISECONDS = 10_000

export type CircuitBreakerOptions = {
  readonly db: Database
  readonly breaker?: Partial<BreakerLimits>
  onDisabled?(name: string, detail: string): void
  onCommitted(): void
}

/** How endpoints fare, as all processes share it. */
export class CircuitBreaker {
  readonly limits: BreakerLimits
  readonly #options: CircuitBreakerOptions
  readonly #failing: Batcher<number, FailingWebhookRow | undefined>
  readonly #succeeding: Batcher<number, undefined>
  readonly #succeededAt = new Map<number, number>()

  constructor(options: CircuitBreakerOptions) {
    this.#options = options
    this.limits = { ...LIMITS, ...options.breaker }
    this.#failing = new Batcher((ids) => this.#noteFailures(ids), NOTED_AT_ONCE_MAX)
    this.#succeeding = new Batcher(async (ids) => {
      await recordSuccesses(options.db, [...new Set(ids)])
      return ids.map(() => undefined)
    }, NOTED_AT_ONCE_MAX)
  }

  /** Notes what came of a try; `failures` are those in a row before it, as they were known. */
  async record(endpoint: Webhook, failures: number, sent: AttemptResult): Promise<void> {
    const { id } = endpoint
    if (sent.outcome === 'delivered') {
      const now = performance.now()
      const last = this.#succeededAt.get(id) ?? Number.NEGATIVE_INFINITY
      if (failures === 0 && now - last < SUCCESS_MILLISECONDS) return
      this.#succeededAt.set(id, now)
      await this.#succeeding.submit(id)
      return
    }
    this.#succeededAt.delete(id)
    const row = await this.#failing.submit(id)
    if (sent.outcome === 'gone') {
      await this.disable(endpoint, 'gone', sent.error ?? '')
    } else if (row !== undefined && this.#isGivenUp(row)) {
      const days = Math.floor(this.limits.disableAfterSeconds / 86_400)
      await this.disable(
        endpoint,
        'failing',
        `nothing was taken for ${days} days; the last time: ${sent.error}`,
      )
    }
  }

  /** Sends nothing any more, and tells those who want to know. */
  async disable(endpoint: Webhook, reason: DisabledReason, detail: string): Promise<void> {
    const { db, onDisabled, onCommitted } = this.#options
    const { id, name } = endpoint
    const isNews = await db.transaction(async (tx) => {
      if (!(await disableWebhook(tx, id, `${reason}: ${detail}`))) return false
      await incrementWebhookChangeCount(tx)
      const event = { type: 'webhook.disabled', webhook: name, reason, detail } as const
      await appendEvents(tx, [{ event, repositoryId: null }])
      return true
    })
    if (!isNews) return
    onDisabled?.(name, detail)
    onCommitted()
  }

  #isGivenUp({ failingSince }: FailingWebhookRow): boolean {
    return Date.now() - failingSince.getTime() > this.limits.disableAfterSeconds * 1000
  }

  /** Several failures of one endpoint are one row. */
  async #noteFailures(ids: readonly number[]): Promise<(FailingWebhookRow | undefined)[]> {
    const counts = new Map<number, number>()
    for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
    const failing = [...counts].map(
      ([webhookId, failures]): WebhookFailures => ({ webhookId, failures }),
    )
    const { failuresMax, seconds, secondsMax } = this.limits
    const jitter = JITTER * Math.random()
    const options = { failuresMax, seconds, secondsMax, jitter }
    const rows = await recordFailures(this.#options.db, failing, options)
    const byId = new Map(rows.map((row) => [row.webhookId, row]))
    return ids.map((id) => byId.get(id))
  }
}
