import type { EventType } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import type { AttemptRow } from '../delivery-attempts.ts'

/** What became of one event for one endpoint. `refused`: who made the endpoint may not pull it. */
export const DELIVERY_STATES = [
  'pending',
  'delivered',
  'failed',
  'expired',
  'superseded',
  'refused',
] as const
export type DeliveryState = (typeof DELIVERY_STATES)[number]

/** A delivery as it is shown. */
export type DeliveryRow = {
  readonly position: number
  readonly eventId: string
  readonly type: EventType
  readonly repository: Repository | null
  /** As it is now; null when the event is about the registry. */
  readonly visibility: 'public' | 'private' | null
  readonly tag: Tag | null
  readonly digest: Digest | null
  readonly occurredAt: Date
  readonly state: DeliveryState
  readonly attempts: number
  readonly dueAt: Date
  readonly finishedAt: Date | null
  /** Of the last try. */
  readonly status: number | null
  readonly error: string | null
}

/** Deliveries of an endpoint before the place `before`, the newest first. */
export async function listDeliveries(
  db: Queryable,
  webhookId: number,
  filter: { readonly state?: DeliveryState | undefined; readonly before?: number | undefined },
  limit: number,
): Promise<DeliveryRow[]> {
  const { rows } = await db.query<DeliveryRow>(
    `select d.event_position as position, e.event_id as "eventId", e.type, r.name as repository,
            r.visibility, e.tag, e.digest, e.occurred_at as "occurredAt", d.state, d.attempts,
            d.due_at as "dueAt", d.finished_at as "finishedAt", a.status, a.error
       from deliveries d
       join events e on e.position = d.event_position
       left join repositories r on r.id = e.repository_id
       left join lateral (
            select status, error
              from delivery_attempts
             where webhook_id = d.webhook_id
               and event_position = d.event_position
             order by attempt desc
             limit 1
            ) a on true
      where d.webhook_id = $1
        and ($2::text is null or d.state = $2)
        and ($3::bigint is null or d.event_position < $3)
      order by d.event_position desc
      limit $4`,
    [webhookId, filter.state ?? null, filter.before ?? null, limit],
  )
  return rows
}

/** More tries than these are not shown. */
const LOG_MAX = 100

/** One delivery with its tries, the newest first, and what is sent. */
export async function findDelivery(
  db: Queryable,
  webhookId: number,
  eventId: string,
): Promise<
  (DeliveryRow & { readonly body: string; readonly log: readonly AttemptRow[] }) | undefined
> {
  const { rows } = await db.query<DeliveryRow & { body: string }>(
    `select d.event_position as position, e.event_id as "eventId", e.type, r.name as repository,
            r.visibility, e.tag, e.digest, e.occurred_at as "occurredAt", d.state, d.attempts,
            d.due_at as "dueAt", d.finished_at as "finishedAt", e.body
       from events e
       join deliveries d on d.webhook_id = $1 and d.event_position = e.position
       left join repositories r on r.id = e.repository_id
      where e.event_id = $2::uuid`,
    [webhookId, eventId],
  )
  const row = rows[0]
  if (row === undefined) return undefined
  const { rows: log } = await db.query<AttemptRow>(
    `select at, milliseconds, status, error, request_headers as "requestHeaders",
            response_headers as "responseHeaders", response_body as "responseBody"
       from delivery_attempts
      where webhook_id = $1
        and event_position = $2
      order by attempt desc
      limit $3`,
    [webhookId, row.position, LOG_MAX],
  )
  return { ...row, status: log[0]?.status ?? null, error: log[0]?.error ?? null, log }
}

/** Sends one again, with a new round of tries. */
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

const HURRIED_MAX = 10_000

/** Makes due what waits for another try; of very many, those that would have waited for the shortest time. */
export async function retryDeliveriesNow(tx: Transaction, webhookId: number): Promise<void> {
  await tx.query(
    `update deliveries
        set due_at = now()
      where (webhook_id, event_position) in (
            select webhook_id, event_position
              from deliveries
             where webhook_id = $1
               and state = 'pending'
               and due_at > now()
               and lease is null
             order by due_at
             limit $2
               for update skip locked
            )`,
    [webhookId, HURRIED_MAX],
  )
}

/** What an endpoint wants: types, and expressions of Postgres for repositories and tags. */
export type EventPatterns = {
  readonly types: readonly string[]
  readonly repositories: readonly string[]
  readonly tags: readonly string[] | null
}

/** What one step of a redelivery came to; `last` and `renewed` are the last places of each. */
type Redelivery = {
  readonly deliveries: number
  readonly scanned: number
  readonly last: number | null
  readonly renewed: number | null
}

// Events that one redelivery looks at, however few of them the endpoint wants.
const SCANNED_MAX = 10_000

/**
 * Sends events behind `after`, up to `until`, again, or for the first time. At most `limit`; `next` is
 * where to go on, null at the end.
 */
export async function redeliverRange(
  tx: Transaction,
  webhookId: number,
  wanted: EventPatterns,
  range: { readonly after: number; readonly until: number },
  states: readonly DeliveryState[] | 'all',
  limit: number,
): Promise<{ deliveries: number; next: number | null }> {
  const { rows } = await tx.query<Redelivery>(
    `with scanned as (
       select e.position, e.type, e.tag, r.name
         from events e
         left join repositories r on r.id = e.repository_id
        where e.position > $2
          and e.position <= $3
          and e.webhook_id is null
        order by e.position
        limit $9
     ), wanted as (
       select s.position
         from scanned s
         left join deliveries d on d.webhook_id = $1 and d.event_position = s.position
        where s.type = any($4::text[])
          and (s.name is null or s.name ~ any($5::text[]))
          and (s.name is null or $6::text[] is null or s.tag ~ any($6::text[]))
          and ($7::text[] is null or d.state = any($7::text[]))
        order by s.position
        limit $8
     ), renewed as (
       insert into deliveries (webhook_id, event_position, redelivered_at)
       select $1, position, now()
         from wanted
           on conflict (webhook_id, event_position) do update
          set state = 'pending',
              round_attempts = 0,
              due_at = now(),
              redelivered_at = now(),
              lease = null,
              finished_at = null
       returning event_position
     )
     select (select count(*) from renewed) as deliveries,
            (select max(position) from scanned) as last,
            (select count(*) from scanned) as scanned,
            (select max(position) from wanted) as renewed`,
    [
      webhookId,
      range.after,
      range.until,
      wanted.types,
      wanted.repositories,
      wanted.tags,
      states === 'all' ? null : states,
      limit,
      SCANNED_MAX,
    ],
  )
  const row = rows[0]
  if (row === undefined || row.last === null) return { deliveries: 0, next: null }
  const { deliveries, last, scanned, renewed } = row
  if (deliveries === limit && renewed !== null) return { deliveries, next: renewed }
  return { deliveries, next: scanned === SCANNED_MAX ? last : null }
}
