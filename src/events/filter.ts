import { type Glob, matchesAnyGlob } from '../oci/glob.ts'
import type { EventSubject, EventType } from './event.ts'

/** The filter of a webhook or a client of the feed. */
export type EventFilter = {
  readonly types: readonly EventType[]
  readonly repositories: readonly Glob[]
  /** Null: also events without a tag. */
  readonly tags: readonly Glob[] | null
}

/**
 * Returns true when an event matches. An event of the registry is compared by its type alone. A filter
 * with tags matches no event without a tag, except the deletion of a repository, which ends all of its tags.
 */
export function matchesFilter(
  { types, repositories, tags }: EventFilter,
  { type, repository, tag }: EventSubject,
): boolean {
  if (!types.includes(type)) return false
  if (repository === null) return true
  const endsAllTags = type === 'repository.deleted'
  if (tags !== null && !endsAllTags && (tag === null || !matchesAnyGlob(tags, tag))) return false
  return matchesAnyGlob(repositories, repository)
}
