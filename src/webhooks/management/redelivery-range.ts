import type { Queryable } from '../../db/database.ts'
import { type FeedState, findEventTime, findFeedState } from '../../db/events/feed.ts'
import type { Cursor, FeedCursors } from '../../events/cursor.ts'
import type { RedeliveryRange } from './types.ts'
import { invalidField } from './validation.ts'

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)$/
// An event gets its position after its transaction has committed, and no transaction lasts this long.
const SLACK_MILLISECONDS = 60_000

/** The positions after `after`, up to and including `until`. */
export type PositionRange = {
  readonly after: number
  readonly until: number
  readonly epoch: string
}

/**
 * Resolves two cursors or times to positions. A range of times is widened by a minute on both sides,
 * because positions follow the order of commits. Throws REQUEST_INVALID.
 */
export async function resolveRedeliveryRange(
  db: Queryable,
  cursors: FeedCursors,
  { after, until }: Pick<RedeliveryRange, 'after' | 'until'>,
): Promise<PositionRange> {
  const feed = await findFeedState(db)
  const { position, epoch } = feed
  const start = await resolvePosition(db, cursors, 'after', after, feed, -SLACK_MILLISECONDS)
  if (until === undefined) return { after: start, until: position, epoch }
  const end = await resolvePosition(db, cursors, 'until', until, feed, SLACK_MILLISECONDS)
  if (end < start) throw invalidField('until', 'must not be before after')
  return { after: start, until: end, epoch }
}

async function resolvePosition(
  db: Queryable,
  cursors: FeedCursors,
  field: string,
  text: string,
  feed: FeedState,
  slackMilliseconds: number,
): Promise<number> {
  const cursor = cursors.parse(text)
  if (cursor !== undefined) return checkedPosition(cursors, field, cursor, feed)
  const time = new Date(text)
  if (!TIME.test(text) || Number.isNaN(time.getTime())) {
    throw invalidField(
      field,
      `must be a cursor such as ${cursors.format(feed)}, or a time such as 2030-01-31T12:00:00Z`,
    )
  }
  return findLastPositionBefore(db, new Date(time.getTime() + slackMilliseconds), feed)
}

function checkedPosition(
  cursors: FeedCursors,
  field: string,
  cursor: Cursor,
  feed: FeedState,
): number {
  const { epoch, prunedThrough } = feed
  if (cursor.epoch !== epoch) {
    throw invalidField(
      field,
      'is a cursor of another registry, or from before this registry was restored: use a time instead',
    )
  }
  if (cursor.position > feed.position) {
    throw invalidField(field, `is newer than the last event, ${cursors.format(feed)}`)
  }
  if (cursor.position < prunedThrough) {
    const oldest = cursors.format({ epoch, position: prunedThrough })
    throw invalidField(field, `was pruned: the oldest available cursor is ${oldest}`)
  }
  return cursor.position
}

/** Finds the last position whose event is older than `time`, by bisection: positions nearly follow time. */
async function findLastPositionBefore(
  db: Queryable,
  time: Date,
  { prunedThrough, position }: FeedState,
): Promise<number> {
  let [low, high] = [prunedThrough, position]
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    const found = await findEventTime(db, middle + 1)
    if (found === undefined || found >= time) high = middle
    else low = middle + 1
  }
  return low
}
