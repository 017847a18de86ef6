import type { EventType } from '../../events/event.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'
import type { AttemptRow } from '../delivery-attempts.ts'
import type { DeliveryState } from './deliveries.ts'

/** Endpoints that have something due, in the order of ids. */
export async function listDueWebhooks(db: Queryable, limit: number): Promise<number[]> {
  // Walks from one endpoint to the next, so that it costs the same however much waits for each.
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
     )
     select webhook_id as "webhookId"
       from waiting
      where due_at <= now()
      limit $1`,
    [limit],
  )
  return rows.map(({ webhookId }) => webhookId)
}

/** A delivery that is ours until its lease is over. */
export type ClaimedDelivery = {
  readonly webhookId: number
  readonly position: number
  readonly lease: string
  /** Tries of this round, before this one. */
  readonly roundAttempts: number
  readonly eventId: string
  readonly type: EventType
  readonly occurredAt: Date
  /** When somebody had it sent again. */
  readonly redeliveredAt: Date | null
  readonly body: string
  /** Null when the event is about the registry. */
  readonly repository: Repository | null
  readonly visibility: 'public' | 'private' | null
  /** True when a later event of its tag makes it useless, and the endpoint wants none such. */
  readonly superseded: boolean
  /** How often the endpoint failed in a row. */
  readonly failures: number
}

export type DeliveryClaim = {
  /** Of this claim alone, so that what came of an earlier one settles nothing of it. */
  readonly lease: string
  readonly leaseSeconds: number
  /** How many of each endpoint are wanted. */
  readonly webhooks: readonly { readonly webhookId: number; readonly slots: number }[]
  /** An endpoint that failed so often in a row gets one, and no other before that one is back. */
  readonly failuresMax: number
}

/**
 * Takes deliveries that are due. An endpoint that is left alone for a while gets none; when that time
 * is over, it gets one, from one process.
 */
export async function claimDeliveries(
  db: Queryable,
  claim: DeliveryClaim,
): Promise<ClaimedDelivery[]> {
  const { lease, leaseSeconds, webhooks: endpoints, failuresMax } = claim
  // `taken` is `picked` by way of arrays: the planner cannot know how few these are, and where much
  // waits for one endpoint it would read the whole table for them.
  const { rows } = await db.query<ClaimedDelivery>(
    `with probing as (
       select webhook_id
         from webhook_health
        where webhook_id = any($1::bigint[])
          and failures >= $5
          and (open_until is null or open_until <= now())
          for update skip locked
     ), wanted as materialized (
       select w.webhook_id, coalesce(h.failures, 0) as failures,
              case when p.webhook_id is null then w.slots else 1 end as slots
         from unnest($1::bigint[], $2::int[]) as w (webhook_id, slots)
         left join webhook_health h on h.webhook_id = w.webhook_id
         left join probing p on p.webhook_id = w.webhook_id
        where coalesce(h.failures, 0) < $5
           or p.webhook_id is not null
     ), picked as (
       select w.webhook_id, w.failures, d.event_position
         from wanted w
        cross join lateral (
              select event_position
                from deliveries
               where webhook_id = w.webhook_id
                 and state = 'pending'
                 and due_at <= now()
               order by due_at, event_position
               limit w.slots
                 for update skip locked
              ) d
     ), taken as (
       select t.webhook_id, t.failures, t.event_position
         from (select array_agg(webhook_id) as webhook_ids,
                      array_agg(failures) as failures,
                      array_agg(event_position) as positions
                 from picked) a
        cross join unnest(a.webhook_ids, a.failures, a.positions)
              as t (webhook_id, failures, event_position)
     ), trying as (
       update webhook_health h
          set open_until = now() + make_interval(secs => $4)
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
       returning d.webhook_id, d.event_position, d.lease, d.round_attempts, d.redelivered_at, p.failures
     )
     select l.webhook_id as "webhookId", l.event_position as position, l.lease, l.round_attempts as "roundAttempts",
            l.failures, l.redelivered_at as "redeliveredAt", e.event_id as "eventId", e.type,
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
                          -- Who asks for one again wants it, whatever came behind it before.
                          and (l.redelivered_at is null or coalesce(redelivered_at, created_at) >= l.redelivered_at)
                     )
            ) as superseded
       from leased l
       join webhooks w on w.id = l.webhook_id
       join events e on e.position = l.event_position
       left join repositories r on r.id = e.repository_id
      order by l.event_position`,
    [
      endpoints.map(({ webhookId }) => webhookId),
      endpoints.map(({ slots }) => slots),
      lease,
      leaseSeconds,
      failuresMax,
    ],
  )
  return rows
}

/** What became of a claimed delivery. */
export type DeliveryResult = {
  readonly webhookId: number
  readonly position: number
  readonly lease: string
  readonly state: DeliveryState
  readonly roundAttempts: number
  /** When it is due again, if it is still pending. */
  readonly delaySeconds: number
  /** Undefined when nothing was sent. */
  readonly attempt: AttemptRow | undefined
}

/**
 * Writes results and what was sent. A delivery whose lease another took meanwhile keeps what that one
 * makes of it; what was sent is logged anyway.
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
     )
     insert into delivery_attempts (webhook_id, event_position, attempt, at, milliseconds, status,
                                    error, request_headers, response_headers, response_body)
     select s.webhook_id, s.event_position, s.attempts, a.at, a.milliseconds, a.status, a.error,
            a."requestHeaders", a."responseHeaders", a."responseBody"
       from settled s
      cross join lateral json_to_record(s.attempt) as a (
              at timestamptz, milliseconds integer, status integer, error text,
              "requestHeaders" jsonb, "responseHeaders" jsonb, "responseBody" text)
      where s.attempt is not null`,
    [JSON.stringify(results)],
  )
}

/** Gives back what a process holds and does not send any more: others may send it at once. */
export async function releaseDeliveries(
  db: Queryable,
  claimed: readonly Pick<ClaimedDelivery, 'webhookId' | 'position' | 'lease'>[],
): Promise<void> {
  await db.query(
    `update deliveries d
        set lease = null,
            due_at = now()
       from unnest($1::bigint[], $2::bigint[], $3::uuid[]) as c (webhook_id, position, lease)
      where d.webhook_id = c.webhook_id
        and d.event_position = c.position
        and d.lease = c.lease`,
    [
      claimed.map(({ webhookId }) => webhookId),
      claimed.map(({ position }) => position),
      claimed.map(({ lease }) => lease),
    ],
  )
}
