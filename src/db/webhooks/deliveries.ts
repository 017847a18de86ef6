import { setImmediate } from 'node:timers/promises'
import type { EventSubject, EventType } from '../../events/event.ts'
import { type EventFilter, matchesFilter } from '../../events/filter.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import { REPOSITORIES_OF_EVENTS } from '../registry/repositories.ts'

/**
 * The states of a delivery. `refused`: the owner of the webhook may not pull the repository, or the webhook's template has no
 * value for an event of this type.
 */
export const DELIVERY_STATES = [
  'pending',
  'delivered',
  'failed',
  'expired',
  'superseded',
  'refused',
] as const
export type DeliveryState = (typeof DELIVERY_STATES)[number]

/** A delivery as users see it. */
export type DeliveryRow = {
  readonly position: number
  readonly eventId: string
  readonly type: EventType
  readonly repository: Repository | null
  /** The repository's present visibility; null for an event about the registry. */
  readonly visibility: 'public' | 'private' | null
  readonly tag: Tag | null
  readonly digest: Digest | null
  /** The subject of an event about the registry; null for one of a repository. */
  readonly subject: string | null
  readonly occurredAt: Date
  readonly state: DeliveryState
  /** All attempts, of every round. */
  readonly attempts: number
  readonly dueAt: Date
  readonly finishedAt: Date | null
  /** Status and error of the last attempt. */
  readonly status: number | null
  readonly error: string | null
  /** See AttemptRow. */
  readonly isInternal: boolean
}

/** One request of a delivery, without secrets, and the response. */
export type AttemptRow = {
  readonly at: Date
  readonly milliseconds: number
  /** Null when there was no response. */
  readonly status: number | null
  readonly error: string | null
  readonly requestHeaders: Readonly<Record<string, string>>
  readonly responseHeaders: Readonly<Record<string, string>> | null
  readonly responseBody: string | null
  /** True when response and error may be about an internal server: only administrators see them. */
  readonly isInternal: boolean
}

const DELIVERY_COLUMNS = `d.event_position as position, e.event_id as "eventId", e.type,
  r.name as repository, r.visibility, e.tag, e.digest,
  case when r.id is null then e.body::json ->> 'subject' end as subject,
  e.occurred_at as "occurredAt", d.state, d.attempts, d.due_at as "dueAt",
  d.finished_at as "finishedAt"`

/** Deliveries that one page reads, however few of them are in the state. */
const LISTED_SCAN_MAX = 2_000
const LISTED_SCAN_BEFORE_LAST = LISTED_SCAN_MAX - 1

/** States that an index finds. Most deliveries are delivered, and those that wait are among the newest. */
const INDEXED_STATES: Partial<Record<DeliveryState, Condition[]>> = {
  failed: given("and state = 'failed'", true),
  expired: given("and state = 'expired'", true),
  superseded: given("and state = 'superseded'", true),
  refused: given("and state = 'refused'", true),
}

/** A page of deliveries. */
export type DeliveryRows = {
  readonly rows: readonly DeliveryRow[]
  /** `before` of the next page; undefined at the end. The page may have fewer deliveries than its limit. */
  readonly next: number | undefined
}

/**
 * Lists deliveries of a webhook whose position is before `before`, newest first. Reads at most LISTED_SCAN_MAX
 * deliveries.
 */
export async function listDeliveries(
  db: Queryable,
  webhookId: number,
  {
    state,
    before,
  }: { readonly state?: DeliveryState | undefined; readonly before?: number | undefined },
  limit: number,
): Promise<DeliveryRows> {
  const indexed = state === undefined ? undefined : INDEXED_STATES[state]
  const conditions = {
    scanned: [...given('and event_position < $', before), ...(indexed ?? [])],
    state: given('and state = $', indexed === undefined ? state : undefined),
  }
  const { rows } = await db.query<DeliveryRow>(
    ...withConditions(
      `select ${DELIVERY_COLUMNS}, a.status, a.error, coalesce(a.internal, true) as "isInternal"
         from (
           select *
             from (
               select *
                 from deliveries
                where webhook_id = $1
                  {scanned}
                order by event_position desc
                limit ${LISTED_SCAN_MAX}
             ) scanned
            where true
              {state}
            order by event_position desc
            limit $2
         ) d
        cross join lateral (
              select event_id, type, repository_id, tag, digest, occurred_at, body
                from events
               where position = d.event_position
              offset 0
              ) e
         left join ${REPOSITORIES_OF_EVENTS} on r.id = e.repository_id
         left join lateral (
              select status, error, internal
                from delivery_attempts
               where webhook_id = d.webhook_id
                 and event_position = d.event_position
               order by attempt desc
               limit 1
              ) a on true
        order by d.event_position desc`,
      [webhookId, limit + 1],
      conditions,
    ),
  )
  const shown = rows.slice(0, limit)
  if (rows.length > limit) return { rows: shown, next: shown.at(-1)?.position }
  // Without a filter of the scanned rows, a page that is not full is the last.
  if (conditions.state.length === 0) return { rows: shown, next: undefined }
  const { rows: last } = await db.query<{ position: number }>(
    ...withConditions(
      `select event_position as position
         from deliveries
        where webhook_id = $1
          {scanned}
        order by event_position desc
       offset ${LISTED_SCAN_BEFORE_LAST}
        limit 1`,
      [webhookId],
      conditions,
    ),
  )
  return { rows: shown, next: last[0]?.position }
}

/** The log of a delivery has the last attempts. */
export const ATTEMPTS_KEPT_MAX = 100

/**
 * Nothing makes a delivery due later than this: the longest wait of the retry schedule and of `Retry-After` is a day, plus
 * a fifth. A time that is further ahead was written by a clock that was ahead.
 */
export const DUE_SECONDS_MAX = 30 * 3600
/** The same for the end of a lease, which is a minute. */
const LEASED_SECONDS_MAX = 120

/** Finds a delivery, with its attempts, newest first, and the body of its event. */
export async function findDelivery(
  db: Queryable,
  webhookId: number,
  eventId: string,
): Promise<
  (DeliveryRow & { readonly body: string; readonly attemptLog: readonly AttemptRow[] }) | undefined
> {
  const { rows } = await db.query<DeliveryRow & { body: string }>(
    `select ${DELIVERY_COLUMNS}, e.body
       from events e
       join deliveries d on d.webhook_id = $1 and d.event_position = e.position
       left join ${REPOSITORIES_OF_EVENTS} on r.id = e.repository_id
      where e.event_id = $2::uuid`,
    [webhookId, eventId],
  )
  const row = rows[0]
  if (row === undefined) return undefined
  const { rows: attemptLog } = await db.query<AttemptRow>(
    `select at, milliseconds, status, error, request_headers as "requestHeaders",
            response_headers as "responseHeaders", response_body as "responseBody",
            coalesce(internal, true) as "isInternal"
       from delivery_attempts
      where webhook_id = $1
        and event_position = $2
      order by attempt desc
      limit $3`,
    [webhookId, row.position, ATTEMPTS_KEPT_MAX],
  )
  const last = attemptLog[0]
  return {
    ...row,
    status: last?.status ?? null,
    error: last?.error ?? null,
    isInternal: last?.isInternal ?? true,
    attemptLog,
  }
}

/** Makes a delivery due again, with a new round of attempts. */
export async function redeliver(
  tx: Transaction,
  webhookId: number,
  position: number,
): Promise<void> {
  await tx.query(
    `update deliveries
        set state = 'pending',
            round_attempts = 0,
            due_at = now(),
            redelivered_at = now(),
            lease = null,
            finished_at = null
      where webhook_id = $1
        and event_position = $2`,
    [webhookId, position],
  )
}

const RETRIED_NOW_MAX = 10_000

/** Makes pending retries due now, in the order of their events, at most RETRIED_NOW_MAX. */
export async function retryDeliveriesNow(db: Queryable, webhookId: number): Promise<void> {
  await db.query(
    `update deliveries
        set due_at = least(now(), coalesce(redelivered_at, created_at)),
            lease = null
      where (webhook_id, event_position) in (
            select webhook_id, event_position
              from deliveries
             where webhook_id = $1
               and state = 'pending'
               and due_at > now()
               and (lease is null or due_at > now() + make_interval(secs => $3))
             order by due_at
             limit $2
               for update skip locked
            )`,
    [webhookId, RETRIED_NOW_MAX, LEASED_SECONDS_MAX],
  )
}

type ScannedEvent = EventSubject & {
  readonly position: number
  readonly state: DeliveryState | null
}

// Events that one redelivery scans, however few of them match the webhook's filter.
const SCANNED_MAX = 10_000
/** Events that are compared before other requests get their turn. */
const COMPARED_PER_TURN = 100
/** The longest time that one redelivery compares events: the next one continues where it ended. */
const COMPARING_MILLISECONDS_MAX = 1_000

/**
 * Makes deliveries of events after `after`, up to `until`, due again, and creates missing ones. Handles
 * at most `limit` events. `next` is the position to continue after; null at the end of the range.
 */
export async function redeliverRange(
  tx: Transaction,
  webhookId: number,
  wanted: EventFilter,
  range: { readonly after: number; readonly until: number },
  states: readonly DeliveryState[] | 'all',
  limit: number,
): Promise<{ deliveries: number; next: number | null }> {
  const { rows } = await tx.query<ScannedEvent>(
    `select e.position, e.type, e.tag, r.name as repository, d.state
       from events e
       left join ${REPOSITORIES_OF_EVENTS} on r.id = e.repository_id
       left join deliveries d on d.webhook_id = $1 and d.event_position = e.position
      where e.position > $2
        and e.position <= $3
        and e.webhook_id is null
      order by e.position
      limit $4`,
    [webhookId, range.after, range.until, SCANNED_MAX],
  )
  const deadline = performance.now() + COMPARING_MILLISECONDS_MAX
  const due: number[] = []
  let next: number | null = rows[SCANNED_MAX - 1]?.position ?? null
  for (const [index, event] of rows.entries()) {
    const isWanted = states === 'all' || states.some((state) => state === event.state)
    if (isWanted && matchesFilter(wanted, event)) due.push(event.position)
    const isOver = due.length === limit || performance.now() > deadline
    if (isOver) next = event.position
    if (isOver) break
    if (index % COMPARED_PER_TURN === COMPARED_PER_TURN - 1) await setImmediate()
  }
  await makeDue(tx, webhookId, due)
  return { deliveries: due.length, next }
}

async function makeDue(
  tx: Transaction,
  webhookId: number,
  positions: readonly number[],
): Promise<void> {
  await tx.query(
    `insert into deliveries (webhook_id, event_position, redelivered_at)
     select $1, position, now()
       from unnest($2::bigint[]) as due (position)
         on conflict (webhook_id, event_position) do update
        set state = 'pending',
            round_attempts = 0,
            due_at = now(),
            redelivered_at = now(),
            lease = null,
            finished_at = null`,
    [webhookId, positions],
  )
}
