import { recordChange } from '../../db/auth/audit.ts'
import type { Database, Queryable, Transaction } from '../../db/database.ts'
import {
  type AttemptRow,
  type DeliveryRow,
  findDelivery,
  listDeliveries,
  redeliver,
  redeliverRange,
} from '../../db/webhooks/deliveries.ts'
import type { WebhookRow } from '../../db/webhooks/webhooks.ts'
import type { FeedCursors } from '../../events/cursor.ts'
import { notFound, type RegistryError } from '../../oci/errors.ts'
import { isUuid } from '../../oci/uuid.ts'
import { canReceive, eventBodyFor } from '../event-access.ts'
import { errorForOwner } from '../internal-responses.ts'
import { requireLockedWebhook, requireWebhook } from './authorization.ts'
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
import { invalidField } from './validation.ts'

export type WebhookDeliveriesOptions = {
  readonly db: Database
  readonly cursors: FeedCursors
  /** Runs when deliveries are due again. */
  onDue(): void
}

/** A page of deliveries that the requester may see, newest first. `next` is the position where the next page begins. */
export type DeliveryPage = {
  readonly webhook: WebhookRow
  readonly deliveries: Delivery[]
  readonly next: number | null
}

/** Events of one redelivery. Keeps its transaction short. */
const REDELIVERED_AT_ONCE = 1000
const SHOWN_LENGTH_MAX = 64

/** Lists deliveries, and sends events again, for users who may manage the webhook. */
export class WebhookDeliveries {
  readonly #db: Database
  readonly #cursors: FeedCursors
  readonly #onDue: () => void

  constructor({ db, cursors, onDue }: WebhookDeliveriesOptions) {
    this.#db = db
    this.#cursors = cursors
    this.#onDue = onDue
  }

  /**
   * Lists one page. `db` is the connection of the question. Throws NOT_FOUND for a webhook that the requester may not
   * manage.
   */
  async list(
    db: Queryable,
    name: string,
    query: DeliveryQuery,
    requester: Requester,
  ): Promise<DeliveryPage> {
    const webhook = await requireWebhook(db, name, requester)
    const { limit, ...filter } = query
    const { rows, next = null } = await listDeliveries(db, webhook.id, filter, limit)
    const permitted = rows.filter((row) => canReceive(requester, row))
    return { webhook, deliveries: permitted.map((row) => deliveryOf(row, requester)), next }
  }

  /** Reads a delivery with its attempts. `db` is the connection of the question. Throws NOT_FOUND. */
  async read(
    db: Queryable,
    name: string,
    event: string,
    requester: Requester,
  ): Promise<DeliveryDetail> {
    const webhook = await requireWebhook(db, name, requester)
    const row = await requireDelivery(db, webhook, event, requester)
    return {
      ...deliveryOf(row, requester),
      attemptLog: row.attemptLog.map((one) => attemptOf(one, requester)),
      body: eventBodyFor(requester, row),
    }
  }

  /** Sends one event again, with the same id. Throws NOT_FOUND. */
  async redeliver(name: string, event: string, requester: Requester): Promise<void> {
    await this.#redelivering(name, requester, event, async (tx, webhook) => {
      const { position } = await requireDelivery(tx, webhook, event, requester)
      await redeliver(tx, webhook.id, position)
    })
  }

  /**
   * Sends the events of a range again that match the webhook's current filter. Throws NOT_FOUND and
   * REQUEST_INVALID.
   */
  async redeliverRange(
    name: string,
    range: RedeliveryRange,
    requester: Requester,
  ): Promise<RedeliveryResult> {
    const states = parseStates(range.states)
    await requireWebhook(this.#db, name, requester)
    const { after, until, epoch } = await resolveRedeliveryRange(this.#db, this.#cursors, range)
    const cursorOf = (position: number) => this.#cursors.format({ epoch, position })
    const detail = `${cursorOf(after)} to ${cursorOf(until)}`
    return this.#redelivering(name, requester, detail, async (tx, webhook) => {
      const result = await redeliverRange(
        tx,
        webhook.id,
        webhook,
        { after, until },
        states,
        REDELIVERED_AT_ONCE,
      )
      const next = result.next === null ? null : cursorOf(result.next)
      return { deliveries: result.deliveries, next }
    })
  }

  async #redelivering<T>(
    name: string,
    requester: Requester,
    detail: string,
    work: (tx: Transaction, webhook: WebhookRow) => Promise<T>,
  ): Promise<T> {
    const result = await this.#db.transaction(async (tx) => {
      // The lock keeps the webhook from being removed before the commit.
      const webhook = await requireLockedWebhook(tx, name, requester)
      const value = await work(tx, webhook)
      await recordChange(tx, requester.actor, { action: 'redeliver', detail: `${name}: ${detail}` })
      return value
    })
    this.#onDue()
    return result
  }
}

/**
 * Finds a delivery whose event the requester may read. It may be older than the webhook's present
 * repositories and owner. Throws NOT_FOUND.
 */
async function requireDelivery(
  db: Queryable,
  { id, name }: WebhookRow,
  event: string,
  requester: Requester,
) {
  const row = isUuid(event) ? await findDelivery(db, id, event) : undefined
  if (row !== undefined && canReceive(requester, row)) return row
  throw noDelivery(name, event)
}

function parseStates(texts: readonly string[] | undefined): readonly DeliveryState[] | 'all' {
  if (texts === undefined) return 'all'
  const unknown = texts.find((text) => !DELIVERY_STATES.some((state) => state === text))
  if (unknown !== undefined || texts.length === 0) {
    const problem =
      unknown === undefined ? 'must not be empty' : `has the unknown value "${shown(unknown)}"`
    throw invalidField('states', `${problem}; the valid values are ${DELIVERY_STATES.join(', ')}`)
  }
  return DELIVERY_STATES.filter((state) => texts.includes(state))
}

function deliveryOf(row: DeliveryRow, requester: Requester): Delivery {
  return {
    event: row.eventId,
    type: row.type,
    subject: subjectOf(row),
    time: row.occurredAt.toISOString(),
    state: row.state,
    attempts: row.attempts,
    status: row.status,
    error: isAdministrator(requester) ? row.error : errorForOwner(row),
    dueAt: row.state === 'pending' ? row.dueAt.toISOString() : null,
    finishedAt: row.finishedAt === null ? null : row.finishedAt.toISOString(),
  }
}

function subjectOf({ repository, tag, digest, subject }: DeliveryRow): string {
  if (repository === null) return subject ?? ''
  return tag === null ? `${repository}@${digest}` : `${repository}:${tag}`
}

function attemptOf(row: AttemptRow, requester: Requester): DeliveryAttempt {
  const { responseHeaders, responseBody } = row
  const hidden = row.isInternal && !isAdministrator(requester)
  const hasResponse = responseHeaders !== null && !hidden
  return {
    at: row.at.toISOString(),
    milliseconds: row.milliseconds,
    status: row.status,
    error: hidden ? errorForOwner(row) : row.error,
    request: { headers: row.requestHeaders },
    response: hasResponse ? { headers: responseHeaders, body: responseBody ?? '' } : null,
    hidden,
  }
}

function isAdministrator({ grants }: Requester): boolean {
  return grants === null
}

function noDelivery(name: string, event: string): RegistryError {
  return notFound(`${name} has no delivery of event ${shown(event)}`)
}

function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX)
}
