import { setTimeout as delay } from 'node:timers/promises'
import type { Queryable } from '../db/database.ts'
import { type FeedEvent, listBodies, type ScannedHeader, scanFeed } from '../db/events/feed.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import type { QuestionQueryable } from '../db/questions.ts'
import { matchesFilter } from '../events/filter.ts'
import { type FeedReader, maySee } from './followers.ts'

/** Statements of one page, however few events match: together they read 500 000 events of others. */
const SCANS_MAX = 50
/** Events that a statement reads. It grows while few of them are visible. */
const SCANNED_FIRST = 500
const SCANNED_AT_ONCE_MAX = 10_000
const SCANNED_GROWTH = 4
/** Visible events that a statement returns. */
const HEADERS_AT_ONCE = 500
/** Visible events that one page compares, however few of them match. */
const COMPARED_MAX = 10_000
/** A page ends with the event that reaches it. 1000 of the largest events would take the event loop 100 ms at once. */
const PAGE_BYTES_MAX = 4 * 1024 * 1024
/** The longest time for which one reader's filter keeps other requests waiting. */
const TURN_MILLISECONDS_MAX = 2
/** The longest time that a page compares events: the next page continues where it ended. */
const COMPARING_MILLISECONDS_MAX = 200

/** Matching events. The next page continues after `scannedTo`; `isEnd` is true when that is the end. */
export type FeedPage = {
  readonly events: FeedEvent[]
  readonly scannedTo: number
  readonly isEnd: boolean
}

/**
 * Returns the matching events after a position, in their order, at most `limit` and PAGE_BYTES_MAX. Compares at most COMPARED_MAX visible
 * events with the filter here, in turns with other requests. Events that the reader may not see end no page before
 * SCANS_MAX statements.
 */
export async function readPage(
  db: QuestionQueryable,
  after: number,
  reader: FeedReader,
  limit: number,
  signal: AbortSignal,
): Promise<FeedPage> {
  const { types, repositories } = reader.filter
  const hasStars = repositories.some((glob) => glob.includes('*'))
  const visible = await resolveVisible(db, reader.visible)
  const { seesAll } = reader
  const query = { types, repositories: hasStars ? null : repositories, visible, seesAll }
  const found: ScannedHeader[] = []
  const taken = { milliseconds: 0, bytes: 0 }
  let scannedTo = after
  let isEnd = false
  let compared = 0
  let scan = SCANNED_FIRST
  for (let scans = 0; scans < SCANS_MAX && compared < COMPARED_MAX && !isEnd; scans += 1) {
    const part = await scanFeed(db, scannedTo, query, scan, HEADERS_AT_ONCE)
    compared += part.headers.length
    const isSparse = part.headers.length < HEADERS_AT_ONCE / SCANNED_GROWTH
    scan = isSparse ? Math.min(scan * SCANNED_GROWTH, SCANNED_AT_ONCE_MAX) : SCANNED_FIRST
    const stoppedAt = await inTurn(() => collect(part.headers, reader, limit, found, taken))
    scannedTo = stoppedAt ?? part.scannedTo
    isEnd = stoppedAt === undefined && part.isEnd
    if (stoppedAt !== undefined || signal.aborted) break
  }
  db.spend(taken.milliseconds)
  return { events: await withBodies(db, found), scannedTo, isEnd }
}

let turns: Promise<unknown> = Promise.resolve()

/** Runs `compare` after the comparisons of other readers: all of them together take one turn at a time. */
function inTurn<T>(compare: () => Promise<T>): Promise<T> {
  const turn = turns.then(compare)
  turns = turn.catch(() => {})
  return turn
}

/**
 * Adds matching events to `found`. Returns the position at which it stopped because the page is full or its time is
 * over.
 */
async function collect(
  headers: readonly ScannedHeader[],
  reader: FeedReader,
  limit: number,
  found: ScannedHeader[],
  taken: { milliseconds: number; bytes: number },
): Promise<number | undefined> {
  let turn = performance.now()
  for (const header of headers) {
    if (maySee(reader, header) && matchesFilter(reader.filter, header)) {
      found.push(header)
      taken.bytes += header.bytes
    }
    const milliseconds = performance.now() - turn
    if (found.length === limit || taken.bytes >= PAGE_BYTES_MAX) return header.position
    if (milliseconds < TURN_MILLISECONDS_MAX) continue
    taken.milliseconds += milliseconds
    if (taken.milliseconds > COMPARING_MILLISECONDS_MAX) return header.position
    // As long as the turn took, so that comparing takes at most half of the time of this process.
    await delay(milliseconds)
    turn = performance.now()
  }
  return undefined
}

/** Reads the bodies. An event that was pruned meanwhile is left out. */
async function withBodies(db: Queryable, headers: readonly ScannedHeader[]): Promise<FeedEvent[]> {
  if (headers.length === 0) return []
  const bodies = await listBodies(
    db,
    headers.map(({ position }) => position),
  )
  return headers.flatMap((header) => {
    const body = bodies.get(header.position)
    return body === undefined ? [] : [{ ...header, body }]
  })
}
