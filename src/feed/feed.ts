import { setImmediate } from 'node:timers/promises'
import type { Database } from '../db/database.ts'
import {
  type CurrentTag,
  type FeedEvent,
  type FeedPage,
  type FeedState,
  findCurrentTags,
  findFeedState,
  listFeed,
  searchFeed,
} from '../db/events/feed.ts'
import { type EventFilter, matchesFilter } from '../events/filter.ts'
import { badRequest } from '../oci/errors.ts'
import { type Glob, postgresRegexOf } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'

export type { CurrentTag, FeedEvent, FeedState }

/** What a client wants, and what it may see. */
export type FeedReader = {
  readonly filter: EventFilter
  /** Expressions of Postgres for private repositories that it may pull; null: an administrator. */
  readonly visible: readonly string[] | null
  mayPull(repository: Repository): boolean
}

/** Whoever holds a stream. */
export type FeedFollower = FeedReader & {
  /** Told of each event that it wants, in their order. */
  onEvent(event: FeedEvent): void
  /** Resolves when it can take more. */
  drained(): Promise<void>
}

export type FeedOptions = {
  readonly db: Database
  /** Resolves when what is committed has its place. */
  flush(): Promise<void>
  onError(error: unknown): void
}

const EVENTS_AT_ONCE = 100
// A client that keeps up is never behind by more than these, whatever their size.
const TOLD_AT_ONCE = 8
/** Events that one page looks at, however few of them are wanted. */
const SCANNED_MAX = 10_000
const PAGES_MAX = 1_000_000
/** Tags of one snapshot. */
export const SNAPSHOT_TAGS_MAX = 10_000
const SNAPSHOT_TRIES_MAX = 4
const POLL_MILLISECONDS = 1_000

/**
 * What happens, for whoever holds a connection. New events are read once for all followers of this
 * process; who lags behind reads for itself until it has caught up.
 */
export class Feed {
  readonly #options: FeedOptions
  readonly #followers = new Followers()
  readonly #waiting = new Set<() => void>()
  #tail: FeedState | undefined
  #timer: NodeJS.Timeout | undefined
  #reading: Promise<void> | undefined
  #asked = false
  #stopped = false

  constructor(options: FeedOptions) {
    this.#options = options
  }

  /** Looks now, and from then on each second. */
  start(): void {
    this.#timer = setInterval(() => this.poke(), POLL_MILLISECONDS)
    this.#timer.unref()
    this.poke()
  }

  /** Something happened. */
  poke(): void {
    this.#asked = true
    if (this.#reading !== undefined || this.#stopped) return
    this.#reading = this.#readAll()
      .catch((error: unknown) => {
        if (!this.#stopped) this.#options.onError(error)
      })
      .finally(() => {
        this.#reading = undefined
      })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    this.#followers.clear()
    this.wake()
    await this.#reading
  }

  /** Which places there are now. */
  state(): Promise<FeedState> {
    return findFeedState(this.#options.db)
  }

  /** The place up to which a follower that has caught up heard everything, and at least `position`. */
  deliveredUpTo(position: number): number {
    return Math.max(position, this.#tail?.position ?? 0)
  }

  /** Events behind `after` that the viewer wants, as far as one look goes. */
  page(after: number, viewer: FeedReader, limit: number): Promise<FeedPage> {
    return searchFeed(this.#options.db, after, questionOf(viewer), limit, SCANNED_MAX)
  }

  /**
   * Hands over every event behind `after`, first those that are there and then those that come, none
   * twice and none left out. Resolves with a function that ends it, once it has caught up.
   */
  async follow(follower: FeedFollower, after: number, goOn: () => boolean): Promise<() => void> {
    let at = after
    for (let pages = 0; pages < PAGES_MAX && goOn() && !this.#stopped; pages += 1) {
      const tail = this.#tail
      // From here to `add` nothing else runs, so nothing can come in between.
      if (tail !== undefined && at >= tail.position) {
        return this.#followers.add(follower, at)
      }
      const { events, scannedTo } = await this.page(at, follower, EVENTS_AT_ONCE)
      for (const event of events) {
        follower.onEvent(event)
        await follower.drained()
      }
      if (scannedTo === at) await this.#next(POLL_MILLISECONDS)
      at = scannedTo
    }
    return () => {}
  }

  /** Lets those look again who wait for a change. */
  wake(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves when something new was read, or after so long. */
  async #next(milliseconds: number, gone?: AbortSignal): Promise<void> {
    if (gone?.aborted) return
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        gone?.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, milliseconds)
      this.#waiting.add(wake)
      gone?.addEventListener('abort', wake)
    })
  }

  /** Resolves when something new was read or the client is gone, at the latest after so many milliseconds. */
  async change(milliseconds: number, gone: AbortSignal): Promise<void> {
    if (!this.#stopped) await this.#next(milliseconds, gone)
  }

  /** Where all tags are that the viewer wants, and as of which place. Throws REQUEST_INVALID. */
  async snapshot(
    viewer: FeedReader,
  ): Promise<FeedState & { readonly tags: readonly CurrentTag[] }> {
    const { repositories, tags } = viewer.filter
    const question = {
      repositories: patternsOf(repositories),
      tags: tags === null ? ANY : patternsOf(tags),
      visible: viewer.visible,
    }
    for (let tries = 1; ; tries += 1) {
      const found = await findCurrentTags(this.#options.db, question, SNAPSHOT_TAGS_MAX)
      if (found.tags.length > SNAPSHOT_TAGS_MAX) {
        throw badRequest(
          `a snapshot has at most ${SNAPSHOT_TAGS_MAX} tags: name repositories or tags`,
        )
      }
      if (!found.waits || tries === SNAPSHOT_TRIES_MAX) return found
      // Else a move that is in the snapshot would be told once more behind it.
      await this.#options.flush()
    }
  }

  async #readAll(): Promise<void> {
    while (this.#asked && !this.#stopped) {
      this.#asked = false
      this.#tail ??= await this.state()
      for (;;) {
        const { events, scannedTo } = await listFeed(
          this.#options.db,
          this.#tail.position,
          EVENTS_AT_ONCE,
        )
        if (scannedTo === this.#tail.position) break
        for (let from = 0; from < events.length; from += TOLD_AT_ONCE) {
          const some = events.slice(from, from + TOLD_AT_ONCE)
          this.#tail = { ...this.#tail, position: some.at(-1)?.position ?? scannedTo }
          for (const event of some) this.#tell(event)
          // So that sockets take what they were given before there is more.
          await setImmediate()
        }
        this.#tail = { ...this.#tail, position: scannedTo }
        this.wake()
      }
    }
  }

  #tell(event: FeedEvent): void {
    for (const { follower, after } of this.#followers.about(event.repository)) {
      if (event.position <= after || !matchesFilter(follower.filter, event)) continue
      if (maySee(follower, event)) follower.onEvent(event)
    }
  }
}

/** `after` is the place from which it is told. */
type Followed = { readonly follower: FeedFollower; readonly after: number }

/** Those who caught up. Whoever names repositories as they are is not even looked at for others. */
class Followers {
  readonly #named = new Map<string, Set<Followed>>()
  readonly #others = new Set<Followed>()

  /** Returns what takes it away again. */
  add(follower: FeedFollower, after: number): () => void {
    const followed = { follower, after }
    const { repositories, types } = follower.filter
    // What is about the registry is about no repository.
    const isNamed =
      repositories.every((glob) => !glob.includes('*')) &&
      (follower.visible !== null || types.every((type) => type.startsWith('image.')))
    if (!isNamed) {
      this.#others.add(followed)
      return () => void this.#others.delete(followed)
    }
    for (const name of repositories) {
      const same = this.#named.get(name) ?? new Set()
      this.#named.set(name, same.add(followed))
    }
    return () => {
      for (const name of repositories) {
        const same = this.#named.get(name)
        same?.delete(followed)
        if (same?.size === 0) this.#named.delete(name)
      }
    }
  }

  /** Those who may want to hear of a repository; null: of the registry. */
  *about(repository: Repository | null): Iterable<Followed> {
    if (repository !== null) yield* this.#named.get(repository) ?? []
    yield* this.#others
  }

  clear(): void {
    this.#named.clear()
    this.#others.clear()
  }
}

function maySee({ visible, mayPull }: FeedReader, { repository, visibility }: FeedEvent): boolean {
  if (visible === null || visibility === 'public') return true
  return repository !== null && mayPull(repository)
}

function questionOf({ filter, visible }: FeedReader) {
  const { types, repositories, tags } = filter
  return {
    types,
    repositories: repositories.map(postgresRegexOf),
    tags: tags === null ? null : tags.map(postgresRegexOf),
    visible,
  }
}

const ANY = { names: [], expressions: [''] }

/** Names without a star can be looked up. */
function patternsOf(globs: readonly Glob[]) {
  return {
    names: globs.filter((glob) => !glob.includes('*')),
    expressions: globs.filter((glob) => glob.includes('*')).map(postgresRegexOf),
  }
}
