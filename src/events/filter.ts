import { type Glob, matchesAnyGlob } from '../oci/glob.ts'
import type { EventSubject, EventType } from './event.ts'

/** Which events somebody wants to hear of. */
export type EventFilter = {
  readonly types: readonly EventType[]
  readonly repositories: readonly Glob[]
  /** Null: also what is about no tag. */
  readonly tags: readonly Glob[] | null
}

/**
 * True when the event is wanted. One that is about the registry is wanted by its type alone; one that
 * is about no tag is never wanted by whoever names tags.
 */
export function matchesFilter(
  { types, repositories, tags }: EventFilter,
  { type, repository, tag }: EventSubject,
): boolean {
  if (!types.includes(type)) return false
  if (repository === null) return true
  if (tags !== null && (tag === null || !matchesAnyGlob(tags, tag))) return false
  return matchesAnyGlob(repositories, repository)
}
