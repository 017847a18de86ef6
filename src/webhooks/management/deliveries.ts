import { recordChange } from '../../db/auth/audit.ts'
import type { Database, Queryable, Transaction } from '../../db/database.ts'
import type { AttemptRow } from '../../db/delivery-attempts.ts'
import { listEventSubjects } from '../../db/events/feed.ts'
import {
  type DeliveryRow,
  findDelivery,
  listDeliveries,
  redeliver,
  redeliverRange,
} from '../../db/webhooks/deliveries.ts'
import { lockWebhook, type WebhookRow } from '../../db/webhooks/webhooks.ts'
import { formatCursor } from '../../events/cursor.ts'
import { notFound } from '../../oci/errors.ts'
import { postgresRegexOf } from '../../oci/glob.ts'
import { canReceive } from '../delivery/authorization.ts'
import { resolveRedeliveryRange } from './redelivery-range.ts'
import {
  DELIVERY_STATES,
  type Delivery,
  type DeliveryAttempt,
  type DeliveryDetail,
  type DeliveryQuery,
  type DeliveryState,
  type RedeliveryRange,
  type RedeliveryResult,
  type Requester,
} from './types.ts'
import { invalid } from './validation.ts'
import { requireWebhook } from './webhooks.ts'

export type WebhookDeliveriesOptions = {
  readonly db: Database
  /** Called when something is due again. */
  onDue(): void
}

/** The newest first, without what the manager may not see; `next` is where the next page begins. */
export type DeliveryPage = { readonly deliveries: Delivery[]; readonly next: number | null }

/** Events of one redelivery, so that its transaction is short. */
const REDELIVERED_AT_ONCE = 1000
const EVENT_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const SHOWN_LENGTH_MAX = 64

/** What became of events for the webhooks of a registry, for those who may manage these. */
export class WebhookDeliveries {
  readonly #db: Database
  readonly #onDue: () => void

  constructor({ db, onDue }: WebhookDeliveriesOptions) {
    this.#db = db
    this.#onDue = onDue
  }

  /** One page. Throws NOT_FOUND for a webhook that the manager may not see. */
  async list(name: string, question: DeliveryQuery, manager: Requester): Promise<DeliveryPage> {
    const { id } = await requireWebhook(this.#db, name, manager)
    const { limit, ...filter } = question
    const rows = await listDeliveries(this.#db, id, filter, limit + 1)
    const shown = rows.slice(0, limit)
    const next = rows.length > limit ? (shown.at(-1)?.position ?? null) : null
    return { deliveries: await this.#told(shown.filter((row) => canReceive(manager, row))), next }
  }

  /** One event with all tries. Throws NOT_FOUND. */
  async read(name: string, event: string, manager: Requester): Promise<DeliveryDetail> {
    const webhook = await requireWebhook(this.#db, name, manager)
    const row = await findVisible(this.#db, webhook, event, manager)
    const [told] = await this.#told([row])
    if (told === undefined) return throwNotFound(name, event)
    return { ...told, attemptLog: row.log.map(tryOf), body: row.body }
  }

  /** Sends one event again, with the same id. Throws NOT_FOUND. */
  async redeliver(name: string, event: string, manager: Requester): Promise<void> {
    await this.#changing(name, manager, event, async (tx, webhook) => {
      const { position } = await findVisible(tx, webhook, event, manager)
      await redeliver(tx, webhook.id, position)
    })
  }

  /**
   * Sends what happened in a range again, as far as the webhook wants it now. Throws NOT_FOUND and
   * REQUEST_INVALID.
   */
  async redeliverRange(
    name: string,
    range: RedeliveryRange,
    manager: Requester,
  ): Promise<RedeliveryResult> {
    const states = checkedStates(range.states)
    await requireWebhook(this.#db, name, manager)
    const { after, until, epoch } = await resolveRedeliveryRange(this.#db, range.after, range.until)
    const what = `${formatCursor({ epoch, position: after })} to ${formatCursor({ epoch, position: until })}`
    return this.#changing(name, manager, what, async (tx, webhook) => {
      const { id, repositories, tags, types } = webhook
      const done = await redeliverRange(
        tx,
        id,
        {
          types,
          repositories: repositories.map(postgresRegexOf),
          tags: tags === null ? null : tags.map(postgresRegexOf),
        },
        { after, until },
        states,
        REDELIVERED_AT_ONCE,
      )
      const next = done.next === null ? null : formatCursor({ epoch, position: done.next })
      return { deliveries: done.deliveries, next }
    })
  }

  async #told(rows: readonly DeliveryRow[]): Promise<Delivery[]> {
    // Of events about the registry, only the event itself says what they are about.
    const others = rows.filter(({ repository }) => repository === null)
    const positions = others.map(({ position }) => position)
    const subjects =
      positions.length === 0
        ? new Map<number, string>()
        : await listEventSubjects(this.#db, positions)
    return rows.map((row) => deliveryOf(row, subjects.get(row.position) ?? ''))
  }

  async #changing<T>(
    name: string,
    manager: Requester,
    what: string,
    work: (tx: Transaction, webhook: WebhookRow) => Promise<T>,
  ): Promise<T> {
    const result = await this.#db.transaction(async (tx) => {
      // So that it is not removed meanwhile.
      if (!name.includes('\0')) await lockWebhook(tx, name)
      const webhook = await requireWebhook(tx, name, manager)
      const done = await work(tx, webhook)
      await recordChange(tx, manager.actor, { action: 'redeliver', detail: `${name}: ${what}` })
      return done
    })
    this.#onDue()
    return result
  }
}

/**
 * A delivery that the manager may see: it was made when the webhook named other repositories, or had
 * another owner. Throws NOT_FOUND.
 */
async function findVisible(
  db: Queryable,
  { id, name }: WebhookRow,
  event: string,
  manager: Requester,
) {
  const row = EVENT_ID.test(event) ? await findDelivery(db, id, event) : undefined
  return row !== undefined && canReceive(manager, row) ? row : throwNotFound(name, event)
}

function checkedStates(texts: readonly string[] | undefined): readonly DeliveryState[] | 'all' {
  if (texts === undefined) return 'all'
  const unknown = texts.find((text) => !DELIVERY_STATES.some((state) => state === text))
  if (unknown !== undefined || texts.length === 0) {
    const wrong = unknown === undefined ? 'is empty' : `has "${shown(unknown)}" in it`
    throw invalid('states', `${wrong}; there are ${DELIVERY_STATES.join(', ')}`)
  }
  return DELIVERY_STATES.filter((state) => texts.includes(state))
}

function deliveryOf(row: DeliveryRow, subject: string): Delivery {
  return {
    event: row.eventId,
    type: row.type,
    subject: subjectOf(row) ?? subject,
    time: row.occurredAt.toISOString(),
    state: row.state,
    attempts: row.attempts,
    status: row.status,
    error: row.error,
    dueAt: row.state === 'pending' ? row.dueAt.toISOString() : null,
    finishedAt: row.finishedAt === null ? null : row.finishedAt.toISOString(),
  }
}

/** As the event itself has it; undefined when it is about no repository. */
function subjectOf({ repository, tag, digest }: DeliveryRow): string | undefined {
  if (repository === null) return undefined
  return tag === null ? `${repository}@${digest}` : `${repository}:${tag}`
}

function tryOf(row: AttemptRow): DeliveryAttempt {
  const { responseHeaders, responseBody } = row
  return {
    at: row.at.toISOString(),
    milliseconds: row.milliseconds,
    status: row.status,
    error: row.error,
    request: { headers: row.requestHeaders },
    response:
      responseHeaders === null ? null : { headers: responseHeaders, body: responseBody ?? '' },
  }
}

function throwNotFound(name: string, event: string): never {
  throw notFound(`${name} was sent no event ${shown(event)}`)
}

function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX)
}
