import type { EventType } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'
import { RANGE_COLUMNS, REPOSITORY_IN_RANGE, type VisibleNames } from '../name-patterns.ts'
import { REPOSITORIES_OF_EVENTS } from '../registry/repositories.ts'

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
       left join ${REPOSITORIES_OF_EVENTS} on r.id = e.repository_id
      where e.position > $1
      order by e.position
      limit $2`,
    [after, limit],
  )
  const events = rows.filter(({ isAddressed }) => !isAddressed)
  return { events, scannedTo: rows.at(-1)?.position ?? after }
}

/** An event without its body. */
export type FeedHeader = Omit<FeedEvent, 'body'>

/** An event without its body, of which only the length in bytes was read. */
export type ScannedHeader = FeedHeader & { readonly bytes: number }

/** Part of a filter that an index or a comparison of whole words decides, and what the reader may see. */
export type HeaderQuery = {
  readonly types: readonly string[]
  /** Names of repositories; null: any. */
  readonly repositories: readonly string[] | null
  readonly visible: VisibleNames
  /** True: also events of the registry. */
  readonly seesAll: boolean
}

/** Events that were read. `scannedTo` is the last position of them; `isEnd` is true when that is the end. */
export type ScannedFeed = {
  readonly headers: readonly ScannedHeader[]
  readonly scannedTo: number
  readonly isEnd: boolean
}

/**
 * Returns the visible events among the next `scan` ones after a position that match the query, at most `limit`,
 * without their bodies. The limit applies to visible events alone.
 */
export async function scanFeed(
  db: Queryable,
  after: number,
  { types, repositories, visible, seesAll }: HeaderQuery,
  scan: number,
  limit: number,
): Promise<ScannedFeed> {
  type Found = { headers: ScannedHeader[]; last: number | null; scanned: number }
  const statement = withConditions(
    `with scanned as materialized (
       select position, type, repository_id, tag, webhook_id, octet_length(body) as bytes
         from events
        where position > $1
        order by position
        limit $2
     ), seen as materialized (
       select r.id, r.name, r.visibility
         from ${REPOSITORIES_OF_EVENTS}
        where r.id in (select repository_id from scanned)
          {named}
          and (r.visibility = 'public' or exists (
              select 1
                from json_to_recordset($4::json) as g (${RANGE_COLUMNS})
               where ${REPOSITORY_IN_RANGE}))
     ), found as (
       select s.position, s.type, seen.name, seen.visibility, s.tag, s.bytes
         from scanned s
         left join seen on seen.id = s.repository_id
        where s.webhook_id is null
          and s.type = any($3::text[])
          and (seen.id is not null or ($5 and s.repository_id is null))
        order by s.position
        limit $6
     )
     select (select coalesce(json_agg(json_build_object(
                      'position', position, 'type', type, 'repository', name,
                      'visibility', visibility, 'tag', tag, 'bytes', bytes) order by position), '[]')
               from found) as headers,
            (select max(position) from scanned) as last,
            (select count(*) from scanned) as scanned`,
    [after, scan, types, visible, seesAll, limit],
    { named: given('and r.name = any($::text[])', repositories ?? undefined) },
  )
  const { rows } = await db.query<Found>(...statement)
  const row = rows[0]
  if (row === undefined) throw new Error('a select of scalars returns one row')
  const { headers, last, scanned } = row
  const isFull = headers.length === limit
  return {
    headers,
    scannedTo: (isFull ? headers.at(-1)?.position : last) ?? after,
    isEnd: !isFull && scanned < scan,
  }
}

/** Returns the bodies of events, by position. */
export async function listBodies(
  db: Queryable,
  positions: readonly number[],
): Promise<ReadonlyMap<number, string>> {
  const { rows } = await db.query<{ position: number; body: string }>(
    `select position, body
       from events
      where position = any($1::bigint[])`,
    [positions],
  )
  return new Map(rows.map(({ position, body }) => [position, body]))
}

/** A unikernel of the manifest that a tag points to. */
export type CurrentUnikernel = {
  readonly digest: Digest
  readonly kernelDigest: Digest
  readonly target: string
  readonly abiVersion: number | null
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
