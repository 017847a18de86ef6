import type { RegistryEvent } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'
import { REPOSITORIES_OF_EVENTS } from '../registry/repositories.ts'

/** An event of a transaction that is not committed yet. */
export type NewEvent = {
  readonly event: RegistryEvent
  /** Null when it is about the registry. */
  readonly repositoryId: number | null
  /** The only webhook that gets it; undefined: every webhook whose filter matches. */
  readonly webhookId?: number
}

/**
 * Appends events to the outbox, in the transaction of their change. The caller holds the locks of the
 * changed rows, so that events about one tag or manifest are in the order of its changes. Returns
 * their ids.
 */
export async function appendEvents(
  tx: Transaction,
  events: readonly NewEvent[],
): Promise<string[]> {
  const { rows } = await tx.query<{ id: string }>(
    `insert into event_outbox (type, repository_id, webhook_id, tag, digest, data)
     select e.type, e.repository_id, e.webhook_id, e.tag, e.digest, e.data
       from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
            with ordinality as e (type, repository_id, webhook_id, tag, digest, data, position)
      order by e.position
     returning event_id as id`,
    [
      events.map(({ event }) => event.type),
      events.map(({ repositoryId }) => repositoryId),
      events.map(({ webhookId }) => webhookId ?? null),
      events.map(({ event }) => ('tag' in event ? event.tag : null)),
      events.map(({ event }) => ('digest' in event ? event.digest : null)),
      events.map(({ event }) => JSON.stringify(event)),
    ],
  )
  return rows.map(({ id }) => id)
}

/** An event that has no position yet. */
export type OutboxRow = {
  readonly id: number
  readonly eventId: string
  readonly repositoryId: number | null
  readonly webhookId: number | null
  readonly tag: Tag | null
  readonly digest: Digest | null
  readonly repository: Repository | null
  /** The last sequence of its repository. */
  readonly lastSequence: number
  /** RegistryEvent as JSON. */
  readonly data: string
  readonly occurredAt: Date
}

/** Returns true when an event has no position yet. */
export async function hasOutboxEvents(db: Queryable): Promise<boolean> {
  const { rows } = await db.query<{ found: boolean }>(
    'select exists (select 1 from event_outbox) as found',
  )
  return rows[0]?.found === true
}

/** Locks the feed until the transaction ends. Returns the last position that was given. */
export async function lockFeed(tx: Transaction): Promise<number> {
  const { rows } = await tx.query<{ position: number }>('select position from feed for update')
  const row = rows[0]
  if (row === undefined) throw new Error('the feed has no row')
  return row.position
}

/** Returns the oldest events of the outbox. The caller holds the lock of the feed. */
export async function listOutbox(tx: Transaction, limit: number): Promise<OutboxRow[]> {
  const { rows } = await tx.query<OutboxRow>(
    `select o.id, o.event_id as "eventId", o.repository_id as "repositoryId",
            o.webhook_id as "webhookId", o.tag, o.digest, r.name as repository,
            coalesce(s.last, 0) as "lastSequence", o.data, o.occurred_at as "occurredAt"
       from event_outbox o
       left join ${REPOSITORIES_OF_EVENTS} on r.id = o.repository_id
       left join repository_sequences s on s.repository_id = o.repository_id
      order by o.id
      limit $1`,
    [limit],
  )
  return rows
}

/** An event with its position. */
export type SequencedEvent = {
  readonly position: number
  readonly sequence: number | null
  readonly outboxId: number
  readonly eventId: string
  readonly type: string
  readonly repositoryId: number | null
  readonly webhookId: number | null
  readonly tag: Tag | null
  readonly digest: Digest | null
  readonly occurredAt: Date
  readonly body: string
}

/** A delivery of the event at a position to a webhook. */
export type NewDelivery = { readonly webhookId: number; readonly position: number }

/**
 * Publishes events in one statement: moves them from the outbox to their positions, adds their
 * deliveries, and notifies every process when the transaction commits.
 */
export async function publishEvents(
  tx: Transaction,
  events: readonly SequencedEvent[],
  deliveries: readonly NewDelivery[],
): Promise<void> {
  await tx.query(
    `with sequenced as (
       select *
         from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[],
                     $7::bigint[], $8::text[], $9::text[], $10::timestamptz[], $11::text[])
              as e (position, sequence, outbox_id, event_id, type, repository_id, webhook_id, tag,
                    digest, occurred_at, body)
     ), published as (
       insert into events (position, event_id, type, repository_id, sequence, tag, digest, webhook_id,
                           occurred_at, body)
       select position, event_id, type, repository_id, sequence, tag, digest, webhook_id, occurred_at,
              body
         from sequenced
     ), counted as (
       insert into repository_sequences (repository_id, last)
       select repository_id, max(sequence)
         from sequenced
        where sequence is not null
        group by repository_id
           on conflict (repository_id) do update set last = excluded.last
     ), taken as (
       delete from event_outbox
        where id = any($3)
     ), delivered as (
       insert into deliveries (webhook_id, event_position)
       select w.id, d.position
         from unnest($12::bigint[], $13::bigint[]) as d (webhook_id, position)
         join webhooks w on w.id = d.webhook_id
     ), moved as (
       update feed
          set position = (select max(position) from sequenced)
       returning position
     )
     select pg_notify('rookery_events', position::text)
       from moved`,
    [
      events.map(({ position }) => position),
      events.map(({ sequence }) => sequence),
      events.map(({ outboxId }) => outboxId),
      events.map(({ eventId }) => eventId),
      events.map(({ type }) => type),
      events.map(({ repositoryId }) => repositoryId),
      events.map(({ webhookId }) => webhookId),
      events.map(({ tag }) => tag),
      events.map(({ digest }) => digest),
      events.map(({ occurredAt }) => occurredAt),
      events.map(({ body }) => body),
      deliveries.map(({ webhookId }) => webhookId),
      deliveries.map(({ position }) => position),
    ],
  )
}
