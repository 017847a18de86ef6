import type { Queryable } from '../../db/database.ts'
import { type FeedState, findEventTime, findFeedState } from '../../db/events/feed.ts'
import { type Cursor, formatCursor, tryParseCursor } from '../../events/cursor.ts'
import { invalid } from './validation.ts'

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/
// Events get their places when they are committed, and no transaction lasts so long.
const SLACK_MILLISECONDS = 60_000

/** Places of events, after the first and up to the second. */
export type PositionRange = {
  readonly after: number
  readonly until: number
  readonly epoch: string
}

/**
 * The places that two cursors or times mean. Times are taken a minute wider, because events stand in
 * the order of their commits. Throws REQUEST_INVALID.
 */
export async function resolveRedeliveryRange(
  db: Queryable,
  after: string,
  until: string | undefined,
): Promise<PositionRange> {
  const places = await findFeedState(db)
  const { position, epoch } = places
  const start = await placeOf(db, 'after', after, places, -SLACK_MILLISECONDS)
  if (until === undefined) return { after: start, until: position, epoch }
  const end = await placeOf(db, 'until', until, places, SLACK_MILLISECONDS)
  if (end < start) throw invalid('until', 'lies before after: exchange them')
  return { after: start, until: end, epoch }
}

async function placeOf(
  db: Queryable,
  field: string,
  text: string,
  places: FeedState,
  slack: number,
): Promise<number> {
  const cursor = tryParseCursor(text)
  if (cursor !== undefined) return placeOfCursor(field, cursor, places)
  const time = new Date(text)
  if (!TIME.test(text) || Number.isNaN(time.getTime())) {
    throw invalid(
      field,
      `is a cursor such as ${formatCursor(places)}, or a time such as 2030-01-31T12:00:00Z`,
    )
  }
  return lastBefore(db, new Date(time.getTime() + slack), places)
}

function placeOfCursor(field: string, cursor: Cursor, places: FeedState): number {
  const { epoch, prunedThrough: forgotten, position } = places
  const place = cursor.position
  if (cursor.epoch !== epoch) {
    throw invalid(
      field,
      `is a cursor of another registry, or from before this one was restored: say a time`,
    )
  }
  if (place > position)
    throw invalid(field, `lies ahead of the last event, ${formatCursor(places)}`)
  if (place < forgotten) {
    throw invalid(
      field,
      `is forgotten: the oldest that is known is ${formatCursor({ epoch, position: forgotten })}`,
    )
  }
  return place
}

/** The last place whose event happened before that time, by halving: places are nearly in its order. */
async function lastBefore(
  db: Queryable,
  time: Date,
  { prunedThrough: forgotten, position }: FeedState,
): Promise<number> {
  let [least, most] = [forgotten, position]
  while (least < most) {
    const middle = Math.floor((least + most) / 2)
    const found = await findEventTime(db, middle + 1)
    if (found === undefined || found >= time) most = middle
    else least = middle + 1
  }
  return least
}
