import type { FeedState } from '../db/events/feed.ts'
import type { Cursor, FeedCursors } from '../events/cursor.ts'
import { invalidQuery } from '../oci/errors.ts'

/** The reason why a client cannot resume from its cursor. */
export type ResetReason = 'pruned' | 'another-epoch' | 'ahead'

const SHOWN_MAX = 64

/** Throws QUERY_INVALID. */
export function parseCursor(cursors: FeedCursors, text: string): Cursor {
  const cursor = cursors.parse(text)
  if (cursor !== undefined) return cursor
  throw invalidQuery('a cursor must be the one of an event or a page: 32 hexadecimal digits', {
    cursor: text.slice(0, SHOWN_MAX),
  })
}

/** Returns undefined when a client can resume from its cursor without missing an event. */
export function resetReason(cursor: Cursor, state: FeedState): ResetReason | undefined {
  if (cursor.epoch !== state.epoch) return 'another-epoch'
  if (cursor.position > state.position) return 'ahead'
  return cursor.position < state.prunedThrough ? 'pruned' : undefined
}
