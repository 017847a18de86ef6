import type { FeedState } from '../db/events/feed.ts'
import { type Cursor, tryParseCursor } from '../events/cursor.ts'
import { invalidQuery } from '../oci/errors.ts'

/** Why a client has to begin anew: what it missed cannot be told any more. */
export type ResetReason = 'forgotten' | 'another-epoch' | 'ahead'

const SHOWN_MAX = 64

/** Throws QUERY_INVALID. */
export function parseCursor(text: string): Cursor {
  const cursor = tryParseCursor(text)
  if (cursor !== undefined) return cursor
  throw invalidQuery('a cursor is what an event or a page had, such as 1a2b3c4d-123', {
    cursor: text.slice(0, SHOWN_MAX),
  })
}

/** Undefined when a client can go on from its cursor without missing anything. */
export function resetReason(cursor: Cursor, places: FeedState): ResetReason | undefined {
  if (cursor.epoch !== places.epoch) return 'another-epoch'
  if (cursor.position > places.position) return 'ahead'
  return cursor.position < places.prunedThrough ? 'forgotten' : undefined
}
