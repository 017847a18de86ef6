import type { FeedEvent, FeedHeader } from '../db/events/feed.ts'
import { isAboutRegistry, namesHosts } from '../events/event.ts'
import type { EventFilter } from '../events/filter.ts'
import type { Glob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'

/** The filter of a client of the feed, and the repositories that it may see. */
export type FeedReader = {
  readonly filter: EventFilter
  /** True for an administrator, who sees everything. */
  readonly seesAll: boolean
  /** Patterns of the private repositories that the reader may pull. */
  readonly visible: readonly Glob[]
  mayPull(repository: Repository): boolean
  /** True when the reader may see events that name the hosts of a repository. */
  maySeeHosts(repository: Repository): boolean
}

/** A reader that has an open stream. */
export type FeedFollower = FeedReader & {
  /** Receives every matching event, in their order. */
  onEvent(event: FeedEvent): void
}

/** `after` is the position after which the follower gets events. */
type Following = { readonly follower: FeedFollower; readonly after: number }

/** The followers that have caught up. Followers without wildcards are indexed by repository. */
export class Followers {
  readonly #byRepository = new Map<string, Set<Following>>()
  readonly #others = new Set<Following>()

  /** Returns a function that removes the follower. */
  add(follower: FeedFollower, after: number): () => void {
    const following = { follower, after }
    const { repositories, types } = follower.filter
    // Events about the registry have no repository, so an index by repository does not find them.
    const isIndexed =
      repositories.every((glob) => !glob.includes('*')) &&
      (!follower.seesAll || !types.some(isAboutRegistry))
    if (!isIndexed) {
      this.#others.add(following)
      return () => void this.#others.delete(following)
    }
    for (const name of repositories) {
      const same = this.#byRepository.get(name) ?? new Set()
      this.#byRepository.set(name, same.add(following))
    }
    return () => {
      for (const name of repositories) {
        const same = this.#byRepository.get(name)
        same?.delete(following)
        if (same?.size === 0) this.#byRepository.delete(name)
      }
    }
  }

  /** Yields the followers that may match an event of a repository; null: an event of the registry. */
  *of(repository: Repository | null): Iterable<Following> {
    if (repository !== null) yield* this.#byRepository.get(repository) ?? []
    yield* this.#others
  }

  clear(): void {
    this.#byRepository.clear()
    this.#others.clear()
  }
}

/** True when the reader may see an event, by its repository's present visibility. */
export function maySee(
  { seesAll, mayPull, maySeeHosts }: FeedReader,
  { type, repository, visibility }: FeedHeader,
): boolean {
  if (seesAll) return true
  if (repository === null || (namesHosts(type) && !maySeeHosts(repository))) return false
  return visibility === 'public' || mayPull(repository)
}
