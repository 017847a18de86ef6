import type { Queryable, Transaction } from '../database.ts'

/** Returns the last position whose event is older than `days`; 0 when there is none. */
export async function findExpiredPosition(db: Queryable, days: number): Promise<number> {
  // Positions are nearly in the order of time: this reads a batch of the oldest.
  const { rows } = await db.query<{ position: number }>(
    `select coalesce(max(position), 0) as position
       from (
         select position, occurred_at
           from events
          order by position
          limit 1000
       ) oldest
      where occurred_at < now() - make_interval(days => $1)`,
    [days],
  )
  return rows[0]?.position ?? 0
}

/** Expires pending deliveries of events up to a position. Returns their number. */
export async function expireDeliveries(
  db: Queryable,
  position: number,
  limit: number,
): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with pending as (
       select d.webhook_id, d.event_position
         from webhooks w
        cross join lateral (
              select webhook_id, event_position
                from deliveries
               where webhook_id = w.id
                 and event_position <= $1
                 and state = 'pending'
               order by event_position
               limit $2
                 for update skip locked
              ) d
        limit $2
     ), expired as (
       update deliveries d
          set state = 'expired',
              lease = null,
              finished_at = now()
         from pending p
        where d.webhook_id = p.webhook_id
          and d.event_position = p.event_position
       returning d.webhook_id
     )
     select count(*) as count
       from expired`,
    [position, limit],
  )
  return rows[0]?.count ?? 0
}

/** Removes deliveries of events up to a position, with their attempts. Returns their number. */
export async function removeDeliveries(
  db: Queryable,
  position: number,
  limit: number,
): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with old as (
       select d.webhook_id, d.event_position
         from webhooks w
        cross join lateral (
              select webhook_id, event_position
                from deliveries
               where webhook_id = w.id
                 and event_position <= $1
               order by event_position
               limit $2
              ) d
        limit $2
     ), removed as (
       delete from deliveries d
        using old o
        where d.webhook_id = o.webhook_id
          and d.event_position = o.event_position
       returning d.webhook_id
     )
     select count(*) as count
       from removed`,
    [position, limit],
  )
  return rows[0]?.count ?? 0
}

/** Removes events up to a position, and records that they were pruned. */
export async function removeEvents(tx: Transaction, position: number): Promise<void> {
  await tx.query(
    `with moved as (
       update feed
          set pruned_through = greatest(pruned_through, $1)
     )
     delete from events
      where position <= $1`,
    [position],
  )
}

/** Removes deliveries of removed webhooks. Returns their number. */
export async function removeOrphanedDeliveries(db: Queryable, limit: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `with orphaned as (
       select d.webhook_id, d.event_position
         from webhooks w
        cross join lateral (
              select webhook_id, event_position
                from deliveries
               where webhook_id = w.id
               limit $1
              ) d
        where w.removed_at is not null
        limit $1
     ), removed as (
       delete from deliveries d
        using orphaned o
        where d.webhook_id = o.webhook_id
          and d.event_position = o.event_position
       returning d.webhook_id
     )
     select count(*) as count
       from removed`,
    [limit],
  )
  return rows[0]?.count ?? 0
}

/** Deletes the rows of removed webhooks that have no deliveries left. */
export async function purgeRemovedWebhooks(db: Queryable): Promise<void> {
  await db.query(
    `delete from webhooks w
      where w.removed_at < now() - interval '1 minute'
        and not exists (select 1 from deliveries where webhook_id = w.id)`,
  )
}
