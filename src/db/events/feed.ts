import type { EventType } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable } from '../database.ts'

/** The range of positions that the feed has. */
export type FeedState = {
  /** The first eight digits of the epoch: a restored database has another one. */
  readonly epoch: string
  /** The position of the last event. */
  readonly position: number
  /** Events up to this position were pruned. */
  readonly prunedThrough: number
}

/** Returns the range of positions. */
export async function findFeedState(db: Queryable): Promise<FeedState> {
  const { rows } = await db.query<FeedState>(
    'select left(epoch::text, 8) as epoch, position, pruned_through as "prunedThrough" from feed',
  )
  const row = rows[0]
  if (row === undefined) throw new Error('the feed has no row')
  return row
}

/** Returns the time of the first event at or after a position. */
export async function findEventTime(db: Queryable, position: number): Promise<Date | undefined> {
  const { rows } = await db.query<{ occurredAt: Date }>(
    `select occurred_at as "occurredAt"
       from events
      where position >= $1
      order by position
      limit 1`,
    [position],
  )
  return rows[0]?.occurredAt
}

/** Returns the `subject` of events, by position. */
export async function listEventSubjects(
  db: Queryable,
  positions: readonly number[],
): Promise<ReadonlyMap<number, string>> {
  const { rows } = await db.query<{ position: number; subject: string | null }>(
    `select position, body::json ->> 'subject' as subject
       from events
      where position = any($1)`,
    [positions],
  )
  return new Map(rows.map(({ position, subject }) => [position, subject ?? '']))
}

/** An event, with the fields that decide who may see it. */
export type FeedEvent = {
  readonly position: number
  readonly type: EventType
  /** Null when it is about the registry. */
  readonly repository: Repository | null
  readonly visibility: 'public' | 'private' | null
  readonly tag: Tag | null
  readonly body: string
}

/** Returns the events after a position, in their order. Events addressed to one webhook are in no feed. */
export async function listFeed(
  db: Queryable,
  after: number,
  limit: number,
): Promise<{ events: FeedEvent[]; scannedTo: number }> {
  const { rows } = await db.query<FeedEvent & { isAddressed: boolean }>(
    `select e.position, e.type, r.name as repository, r.visibility, e.tag, e.body,
            e.webhook_id is not null as "isAddressed"
       from events e
       left join repositories r on r.id = e.repository_id
      where e.position > $1
      order by e.position
      limit $2`,
    [after, limit],
  )
  const events = rows.filter(({ isAddressed }) => !isAddressed)
  return { events, scannedTo: rows.at(-1)?.position ?? after }
}

/** The filter of a reader, with Postgres expressions for names. */
export type FeedQuery = {
  readonly types: readonly string[]
  readonly repositories: readonly string[]
  readonly tags: readonly string[] | null
  /** Private repositories that the reader may see; null: all of them, and events of the registry. */
  readonly visible: readonly string[] | null
}

/** Matching events. The next page continues after `scannedTo`; `isEnd` is true when that is the end. */
export type FeedPage = {
  readonly events: FeedEvent[]
  readonly scannedTo: number
  readonly isEnd: boolean
}

/** Returns the matching events among the next `scan` events after a position, at most `limit`. */
export async function searchFeed(
  db: Queryable,
  after: number,
  query: FeedQuery,
  limit: number,
  scan: number,
): Promise<FeedPage> {
  type Found = { events: FeedEvent[]; last: number | null; scanned: number }
  const { rows } = await db.query<Found>(
    `with scanned as (
       select position, type, repository_id, tag, webhook_id
         from events
        where position > $1
        order by position
        limit $7
     ), matching as (
       select s.position, s.type, r.name as repository, r.visibility, s.tag
         from scanned s
         left join repositories r on r.id = s.repository_id
        where s.webhook_id is null
          and s.type = any($2::text[])
          and (r.name is null or r.name ~ any($3::text[]))
          and (r.name is null or $4::text[] is null or s.tag ~ any($4::text[]))
          and ($5::text[] is null or r.visibility = 'public' or r.name ~ any($5::text[]))
        order by s.position
        limit $6
     )
     select (select coalesce(json_agg(json_build_object(
                      'position', m.position, 'type', m.type, 'repository', m.repository,
                      'visibility', m.visibility, 'tag', m.tag, 'body', e.body) order by m.position),
                    '[]')
               from matching m
               join events e on e.position = m.position) as events,
            (select max(position) from scanned) as last,
            (select count(*) from scanned) as scanned`,
    [after, query.types, query.repositories, query.tags, query.visible, limit, scan],
  )
  const row = rows[0]
  const events = row?.events ?? []
  const full = events.length === limit ? events.at(-1)?.position : undefined
  const isEnd = full === undefined && row?.scanned !== scan
  return { events, scannedTo: full ?? row?.last ?? after, isEnd }
}

/** A unikernel of the manifest that a tag points to. */
export type CurrentUnikernel = {
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly abiVersion: number
  readonly architecture: string | null
  readonly inputId: string | null
}

/** A tag with its present manifest. */
export type CurrentTag = {
  readonly repository: Repository
  readonly tag: Tag
  readonly digest: Digest
  readonly movedAt: string
  readonly unikernels: readonly CurrentUnikernel[]
}

/** Exact names, and Postgres expressions for patterns. */
export type NamePatterns = {
  readonly names: readonly string[]
  readonly expressions: readonly string[]
}

/** The filter of a snapshot. */
export type TagQuery = {
  readonly repositories: NamePatterns
  readonly tags: NamePatterns
  /** As in a FeedQuestion. */
  readonly visible: readonly string[] | null
}

/**
 * Returns all matching tags and the position of the feed, both of the same moment.
 * `hasPendingEvents` is true when a committed event has no position yet. `tags` has one more than
 * `limit` when there are more. Exact names cost the same however much else is stored.
 */
export async function findCurrentTags(
  db: Queryable,
  { repositories, tags, visible }: TagQuery,
  limit: number,
): Promise<
  FeedState & { readonly hasPendingEvents: boolean; readonly tags: readonly CurrentTag[] }
> {
  const { rows } = await db.query<FeedState & { hasPendingEvents: boolean; tags: CurrentTag[] }>(
    `with requested as (
       select id, name, visibility
         from repositories
        where name = any($1::text[])
       union all
       select id, name, visibility
         from repositories
        where cardinality($2::text[]) > 0
          and name ~ any($2::text[])
          and name <> all($1::text[])
     ), visible as (
       select id, name
         from requested
        where $5::text[] is null
           or visibility = 'public'
           or name ~ any($5::text[])
     ), current as (
       (select v.id, v.name as repository, t.name as tag, t.digest, t.moved_at
          from visible v
          join tags t on t.repository_id = v.id
         where t.name = any($3::text[])
         limit $6 + 1)
       union all
       (select v.id, v.name as repository, t.name as tag, t.digest, t.moved_at
          from visible v
          join tags t on t.repository_id = v.id
         where cardinality($4::text[]) > 0
           and t.name ~ any($4::text[])
           and t.name <> all($3::text[])
         limit $6 + 1)
     )
     select left(f.epoch::text, 8) as epoch, f.position, f.pruned_through as "prunedThrough",
            exists (select 1 from event_outbox) as "hasPendingEvents",
            (select coalesce(json_agg(json_build_object(
                      'repository', c.repository, 'tag', c.tag, 'digest', c.digest,
                      'movedAt', c.moved_at, 'unikernels', (
                        select coalesce(json_agg(json_build_object(
                                 'digest', members.digest, 'kernelDigest', i.kernel_digest,
                                 'target', i.target, 'abiVersion', i.abi_version,
                                 'architecture', i.architecture, 'inputId', i.input_id)
                                 order by i.manifest_id), '[]')
                          from (
                            select m.id, m.digest
                              from manifests m
                             where m.repository_id = c.id
                               and m.digest = c.digest
                            union all
                            select mm.id, mm.digest
                              from manifests m
                              join manifest_children mc on mc.manifest_id = m.id
                              join manifests mm on mm.repository_id = c.id
                                               and mm.digest = mc.digest
                             where m.repository_id = c.id
                               and m.digest = c.digest
                          ) members
                          join images i on i.manifest_id = members.id
                      )) order by c.repository, c.tag), '[]')
               from current c) as tags
       from feed f`,
    [repositories.names, repositories.expressions, tags.names, tags.expressions, visible, limit],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('the feed has no row')
  return row
}
