import type { EventType } from '../../events/event.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import { REPOSITORIES_OF_EVENTS } from '../registry/repositories.ts'
import {
  ATTEMPTS_KEPT_MAX,
  type AttemptRow,
  type DeliveryState,
  DUE_SECONDS_MAX,
} from './deliveries.ts'
import { OPEN_SECONDS_MAX } from './health.ts'

/** Deliveries with a due time that is too far ahead and that one call brings back, of each webhook. */
const BROUGHT_BACK_MAX = 1000

/**
 * Lists the ids of webhooks with due deliveries, in ascending order, and of webhooks with any delivery whose circuit is no
 * longer open. A delivery whose time is further ahead than `DUE_SECONDS_MAX` becomes due: a clock that was ahead wrote it.
 */
export async function listDueWebhooks(
  db: Queryable,
  limit: number,
  failuresMax: number,
): Promise<number[]> {
  // Skips from one webhook to the next in the index, so the cost does not grow with their pending deliveries.
  const { rows } = await db.query<{ webhookId: number }>(
    `with recursive waiting as (
       (select webhook_id, due_at
          from deliveries
         where state = 'pending'
         order by webhook_id, due_at
         limit 1)
       union all
       select n.webhook_id, n.due_at
         from waiting w
        cross join lateral (
              select webhook_id, due_at
                from deliveries
               where state = 'pending'
                 and webhook_id > w.webhook_id
               order by webhook_id, due_at
               limit 1
              ) n
     ), brought_back as (
       update deliveries d
          set due_at = now()
         from (
              select far.webhook_id, far.event_position
                from waiting w
               cross join lateral (
                     select webhook_id, event_position
                       from deliveries
                      where webhook_id = w.webhook_id
                        and state = 'pending'
                        and due_at > now() + make_interval(secs => $3)
                      order by due_at
                      limit $4
                        for update skip locked
                     ) far
              ) f
        where d.webhook_id = f.webhook_id
          and d.event_position = f.event_position
       returning d.webhook_id
     )
     select w.webhook_id as "webhookId"
       from waiting w
       left join webhook_health h on h.webhook_id = w.webhook_id
      where w.due_at <= now()
         or (h.failures >= $2
             and (h.open_until is null
                  or h.open_until not between now() and now() + make_interval(secs => $5)))
     union
     select webhook_id
       from brought_back
      order by 1
      limit $1`,
    [limit, failuresMax, DUE_SECONDS_MAX, BROUGHT_BACK_MAX, OPEN_SECONDS_MAX],
  )
  return rows.map(({ webhookId }) => webhookId)
}

/** A delivery that this process holds until its lease ends. */
export type ClaimedDelivery = {
  readonly webhookId: number
  readonly position: number
  readonly lease: string
  /** Attempts of this round, before this one. */
  readonly roundAttempts: number
  readonly eventId: string
  readonly type: EventType
  readonly occurredAt: Date
  /** The time of the last redelivery request. */
  readonly redeliveredAt: Date | null
  readonly body: string
  /** Null for an event about the registry. */
  readonly repository: Repository | null
  readonly visibility: 'public' | 'private' | null
  /** True when the webhook coalesces tags and a later event of the same tag replaces this one. */
  readonly superseded: boolean
  /** Consecutive failures of the webhook. */
  readonly failures: number
  /** Seconds until it would have been due: it was claimed earlier, as the one attempt after the open time. */
  readonly earlySeconds: number
}

/** The deliveries to claim. */
export type DeliveryClaim = {
  /** Unique to this claim, so that the result of an earlier claim does not settle its deliveries. */
  readonly lease: string
  readonly leaseSeconds: number
  /** The free slots of each webhook. */
  readonly webhooks: readonly { readonly webhookId: number; readonly slots: number }[]
  /** A webhook with this many consecutive failures gets one delivery at a time. */
  readonly failuresMax: number
  /** Time for which the circuit stays open while that delivery is attempted. */
  readonly openSeconds: number
}

/**
 * Claims due deliveries. A webhook whose circuit is open gets none. When the open time ends, one process
 * claims one delivery of it, due or not, so that a receiver that is back is noticed.
 */
export async function claimDeliveries(
  db: Queryable,
  claim: DeliveryClaim,
): Promise<ClaimedDelivery[]> {
  const { lease, leaseSeconds, webhooks, failuresMax, openSeconds } = claim
  // `taken` passes `picked` through arrays: the planner cannot know how few rows it has, and would read the
  // whole table when one webhook has many pending deliveries.
  const { rows } = await db.query<ClaimedDelivery>(
    `with probing as (
       select webhook_id
         from webhook_health
        where webhook_id = any($1::bigint[])
          and failures >= $5
          and (open_until is null
               or open_until not between now() and now() + make_interval(secs => $7))
          for update skip locked
     ), wanted as materialized (
       select w.webhook_id, coalesce(h.failures, 0) as failures,
              case when p.webhook_id is null then w.slots else 1 end as slots,
              case when p.webhook_id is null then now() else 'infinity' end as due_until
         from unnest($1::bigint[], $2::int[]) as w (webhook_id, slots)
         left join webhook_health h on h.webhook_id = w.webhook_id
         left join probing p on p.webhook_id = w.webhook_id
        where coalesce(h.failures, 0) < $5
           or p.webhook_id is not null
     ), picked as (
       select w.webhook_id, w.failures, d.event_position, d.early_seconds
         from wanted w
        cross join lateral (
              select event_position,
                     greatest(0, extract(epoch from due_at - now()))::float8 as early_seconds
                from deliveries
               where webhook_id = w.webhook_id
                 and state = 'pending'
                 and due_at <= w.due_until
               order by due_at, event_position
               limit w.slots
                 for update skip locked
              ) d
     ), taken as (
       select t.webhook_id, t.failures, t.event_position, t.early_seconds
         from (select array_agg(webhook_id) as webhook_ids,
                      array_agg(failures) as failures,
                      array_agg(event_position) as positions,
                      array_agg(early_seconds) as early_seconds
                 from picked) a
        cross join unnest(a.webhook_ids, a.failures, a.positions, a.early_seconds)
              as t (webhook_id, failures, event_position, early_seconds)
     ), trying as (
       update webhook_health h
          set open_until = now() + make_interval(secs => $6)
         from taken p
        where h.webhook_id = p.webhook_id
          and p.failures >= $5
     ), leased as (
       update deliveries d
          set lease = $3,
              due_at = now() + make_interval(secs => $4)
         from taken p
        where d.webhook_id = p.webhook_id
          and d.event_position = p.event_position
       returning d.webhook_id, d.event_position, d.lease, d.round_attempts, d.redelivered_at, p.failures,
                 p.early_seconds
     )
     select l.webhook_id as "webhookId", l.event_position as position, l.lease, l.round_attempts as "roundAttempts",
            l.failures, l.early_seconds as "earlySeconds", l.redelivered_at as "redeliveredAt", e.event_id as "eventId", e.type,
            e.occurred_at as "occurredAt", e.body, r.name as repository, r.visibility,
            w.coalesce_tags and e.type in ('image.tag.updated', 'image.tag.deleted') and exists (
              select 1
                from events n
               where n.repository_id = e.repository_id
                 and n.tag = e.tag
                 and n.position > e.position
                 and n.type in ('image.tag.updated', 'image.tag.deleted')
                 and exists (
                       select 1
                         from deliveries
                        where webhook_id = l.webhook_id
                          and event_position = n.position
                          -- A redelivered event is not superseded by events from before the request.
                          and (l.redelivered_at is null or coalesce(redelivered_at, created_at) >= l.redelivered_at)
                     )
            ) as superseded
       from leased l
       join webhooks w on w.id = l.webhook_id
       join events e on e.position = l.event_position
       left join ${REPOSITORIES_OF_EVENTS} on r.id = e.repository_id
      order by l.event_position`,
    [
      webhooks.map(({ webhookId }) => webhookId),
      webhooks.map(({ slots }) => slots),
      lease,
      leaseSeconds,
      failuresMax,
      openSeconds,
      OPEN_SECONDS_MAX,
    ],
  )
  return rows
}

/** The result of a claimed delivery. */
export type DeliveryResult = {
  readonly webhookId: number
  readonly position: number
  readonly lease: string
  readonly state: DeliveryState
  readonly roundAttempts: number
  /** Seconds until a pending delivery is due again. */
  readonly delaySeconds: number
  /** Undefined when no request was sent. */
  readonly attempt: AttemptRow | undefined
}

/**
 * Writes results and their attempts. When another claim has taken over a delivery, its state is left to
 * that claim; the attempt is logged anyway. Keeps the last `ATTEMPTS_KEPT_MAX` attempts of each delivery.
 */
export async function settleDeliveries(
  db: Queryable,
  results: readonly DeliveryResult[],
): Promise<void> {
  await db.query(
    `with results as (
       select r."webhookId", r.position, r.lease, r.state, r."roundAttempts", r."delaySeconds", r.attempt
         from json_to_recordset($1) as r (
                "webhookId" bigint, position bigint, lease uuid, state text, "roundAttempts" integer,
                "delaySeconds" double precision, attempt json)
     ), settled as (
       update deliveries d
          set (state, round_attempts, lease, due_at, finished_at) = (
                select r.state, r."roundAttempts", null::uuid,
                       case when r.state = 'pending'
                            then now() + make_interval(secs => r."delaySeconds")
                            else d.due_at end,
                       case when r.state = 'pending' then null else now() end
                 where d.lease = r.lease
                 union all
                select d.state, d.round_attempts, d.lease, d.due_at, d.finished_at
                 where d.lease is distinct from r.lease
              ),
              attempts = d.attempts + case when r.attempt is null then 0 else 1 end
         from results r
        where d.webhook_id = r."webhookId"
          and d.event_position = r.position
          and (d.lease = r.lease or r.attempt is not null)
       returning d.webhook_id, d.event_position, d.attempts, r.attempt
     ), removed as (
       delete from delivery_attempts a
        using settled s
        where s.attempts > $2
          and a.webhook_id = s.webhook_id
          and a.event_position = s.event_position
          and a.attempt <= s.attempts - $2
     )
     insert into delivery_attempts (webhook_id, event_position, attempt, at, milliseconds, status,
                                    error, request_headers, response_headers, response_body, internal)
     select s.webhook_id, s.event_position, s.attempts, a.at, a.milliseconds, a.status, a.error,
            a."requestHeaders", a."responseHeaders", a."responseBody", a."isInternal"
       from settled s
      cross join lateral json_to_record(s.attempt) as a (
              at timestamptz, milliseconds integer, status integer, error text,
              "requestHeaders" jsonb, "responseHeaders" jsonb, "responseBody" text,
              "isInternal" boolean)
      where s.attempt is not null`,
    [JSON.stringify(results), ATTEMPTS_KEPT_MAX],
  )
}

/** Releases claimed deliveries, so that other processes can send them immediately, also those of failing webhooks. */
export async function releaseDeliveries(
  db: Queryable,
  claimed: readonly Pick<ClaimedDelivery, 'webhookId' | 'position' | 'lease'>[],
): Promise<void> {
  await db.query(
    `with released as (
       update deliveries d
          set lease = null,
              due_at = now()
         from unnest($1::bigint[], $2::bigint[], $3::uuid[]) as c (webhook_id, position, lease)
        where d.webhook_id = c.webhook_id
          and d.event_position = c.position
          and d.lease = c.lease
       returning d.webhook_id
     )
     update webhook_health h
        set open_until = now()
      where h.webhook_id in (select webhook_id from released)
        and h.open_until > now()`,
    [
      claimed.map(({ webhookId }) => webhookId),
      claimed.map(({ position }) => position),
      claimed.map(({ lease }) => lease),
    ],
  )
}
