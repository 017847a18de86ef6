import { setImmediate as nextTurn } from 'node:timers/promises'
import { Batcher } from '../async/batcher.ts'
import { Loop } from '../async/loop.ts'
import type { Database } from '../db/database.ts'
import {
  type CurrentTag,
  type FeedEvent,
  type FeedState,
  findFeedState,
  listFeed,
} from '../db/events/feed.ts'
import type { QuestionQueryable } from '../db/questions.ts'
import type { Cursor } from '../events/cursor.ts'
import { matchesFilter } from '../events/filter.ts'
import { type ResetReason, resetReason } from './cursor.ts'
import { type FeedFollower, type FeedReader, Followers, maySee } from './followers.ts'
import { type FeedPage, readPage } from './page.ts'
import { readSnapshot } from './snapshot.ts'

export type { CurrentTag, FeedEvent, FeedReader }

export type FeedOptions = {
  readonly db: Database
  /** Resolves when every committed event has its position. */
  flush(): Promise<void>
  onError(error: unknown): void
}

/** Where a reader starts. */
export type FeedStart = {
  readonly epoch: string
  readonly position: number
  /** True when there is no event after `position` yet. */
  readonly isEnd: boolean
  /** The reason why the reader cannot resume from its cursor; undefined when it can. */
  readonly reset: ResetReason | undefined
  /** The snapshot, if the reader asked for one and does not resume. */
  readonly tags: readonly CurrentTag[] | undefined
}

/** One answer of a long poll. */
export type FeedAnswer = Omit<FeedStart, 'position'> & {
  readonly events: readonly FeedEvent[]
  /** The position from which the next poll continues. */
  readonly position: number
}

/** The receiving end of an open feed. */
export type FeedSink = {
  /** Receives the start, before the first event. */
  onStart(start: FeedStart): Promise<void>
  /** Receives every matching event, in their order. */
  onEvent(event: FeedEvent): void
  /** Resolves when the sink can take more. The feed waits for it until the reader has caught up. */
  drained(): Promise<void>
  /** The reader has caught up: from now on no event waits for it. `deliveredUpTo` returns its position. */
  onLive(deliveredUpTo: () => number): void
}

export type StartOptions = {
  /** True: a reader that does not resume starts with a snapshot. */
  readonly withSnapshot: boolean
  /** Ends the wait or the stream. */
  readonly signal: AbortSignal
}

export type LongPollOptions = StartOptions & {
  /** How long to wait for an event; 0: not at all. */
  readonly waitSeconds: number
  /** Events of one answer. */
  readonly limit: number
}

const EVENTS_PER_READ_MAX = 100
// A reader that keeps up is never behind by more events than these.
const EVENTS_PER_TURN_MAX = 8
const PAGES_MAX = 1_000_000
const SNAPSHOT_ATTEMPTS_MAX = 4
const POLL_SECONDS = 1
const READERS_AT_ONCE_MAX = 1000

/**
 * The events for connected clients. A process reads each new event once for all of its followers; a
 * reader that is behind reads for itself until it has caught up.
 */
export class Feed {
  readonly #options: FeedOptions
  readonly #followers = new Followers()
  readonly #waiting = new Set<() => void>()
  /** Long polls that wait for an event of theirs. */
  readonly #polls = new Set<() => void>()
  readonly #reading: Loop
  /** Readers that begin at the same time share a statement. */
  readonly #states: Batcher<undefined, FeedState>
  /** The last event that the followers got. */
  #tail: FeedState | undefined
  #isStopped = false

  constructor(options: FeedOptions) {
    this.#options = options
    this.#states = new Batcher(async (readers) => {
      const state = await findFeedState(options.db)
      return readers.map(() => state)
    }, READERS_AT_ONCE_MAX)
    this.#reading = new Loop({
      everySeconds: POLL_SECONDS,
      work: (signal) => this.#readNew(signal),
      onError: options.onError,
    })
  }

  /** Reads new events now, and polls for them from then on. */
  start(): void {
    this.#reading.start()
  }

  /** Reads new events now: for a caller that knows of some. */
  poke(): void {
    this.#reading.poke()
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    const stopping = this.#reading.stop()
    this.#followers.clear()
    this.#wakeAll()
    for (const wake of this.#polls) wake()
    await stopping
  }

  /**
   * Returns the matching events after a cursor; `db` is the connection of the question. When there are none, waits for one, at most
   * `waitSeconds`, and not for a reader that starts with a snapshot or a reset. Throws
   * REQUEST_INVALID for a snapshot that is too large.
   */
  async longPoll(
    db: QuestionQueryable,
    reader: FeedReader,
    cursor: Cursor | undefined,
    { waitSeconds, limit, withSnapshot, signal }: LongPollOptions,
  ): Promise<FeedAnswer> {
    const start = await this.#begin(db, reader, cursor, withSnapshot)
    if (limit === 0) return { ...start, events: [] }
    const canWait = start.reset === undefined && start.tags === undefined
    const deadline = performance.now() + waitSeconds * 1000
    let page: FeedPage = { events: [], scannedTo: start.position, isEnd: start.isEnd }
    for (;;) {
      if (!page.isEnd && page.events.length === 0) {
        const tail = this.#tail?.position ?? 0
        const read = await readPage(db, page.scannedTo, reader, limit, signal)
        // Events up to the tail are committed, and pruned ones are no reason to read again.
        page = read.isEnd ? { ...read, scannedTo: Math.max(read.scannedTo, tail) } : read
      }
      const { events, scannedTo: position, isEnd } = page
      const left = deadline - performance.now()
      const isOver = signal.aborted || this.#isStopped || left <= 0
      if (!canWait || events.length > 0 || isOver) return { ...start, events, position, isEnd }
      if (isEnd) page = await this.#nextPage(reader, position, limit, left, signal)
    }
  }

  /**
   * Sends a reader every matching event after a cursor, first the stored ones and then the new ones,
   * none twice and none left out. Resolves when the signal is aborted. Throws REQUEST_INVALID before
   * `onStart` for a snapshot that is too large.
   */
  async open(
    db: QuestionQueryable,
    reader: FeedReader,
    cursor: Cursor | undefined,
    sink: FeedSink,
    { withSnapshot, signal }: StartOptions,
  ): Promise<void> {
    const start = await this.#begin(db, reader, cursor, withSnapshot)
    await sink.onStart(start)
    let delivered = start.position
    const follower: FeedFollower = {
      ...reader,
      onEvent(event) {
        delivered = event.position
        sink.onEvent(event)
      },
    }
    const leave = await this.#catchUp(db, follower, start.position, sink, signal)
    if (leave === undefined) return
    sink.onLive(() => Math.max(delivered, this.#tail?.position ?? 0))
    await aborted(signal)
    leave()
  }

  /** Returns the start of a reader: after its cursor, or the end of the feed. */
  async #begin(
    db: QuestionQueryable,
    reader: FeedReader,
    cursor: Cursor | undefined,
    withSnapshot: boolean,
  ): Promise<FeedStart> {
    // One row, for any reader: this is no question, so a thousand readers start at once.
    const state = await this.#states.load(undefined)
    const { epoch } = state
    const reset = cursor && resetReason(cursor, state)
    const resumed = reset === undefined ? cursor : undefined
    if (withSnapshot && resumed === undefined) {
      const { tags, position } = await this.#snapshot(db, reader)
      return { epoch, position, isEnd: true, reset, tags }
    }
    const position = resumed?.position ?? state.position
    return { epoch, position, isEnd: position >= state.position, reset, tags: undefined }
  }

  /**
   * Sends the stored events, and adds the follower to those that get the new ones. Returns a function
   * that removes it again, or undefined when the signal ended it before.
   */
  async #catchUp(
    db: QuestionQueryable,
    follower: FeedFollower,
    after: number,
    sink: FeedSink,
    signal: AbortSignal,
  ): Promise<(() => void) | undefined> {
    let at = after
    for (let pages = 0; pages < PAGES_MAX && !signal.aborted && !this.#isStopped; pages += 1) {
      const tail = this.#tail
      // Nothing else runs between this check and `add`, so no event is missed in between.
      if (tail !== undefined && at >= tail.position) return this.#followers.add(follower, at)
      const { events, scannedTo } = await readPage(db, at, follower, EVENTS_PER_READ_MAX, signal)
      for (const event of events) {
        follower.onEvent(event)
        await sink.drained()
      }
      if (scannedTo === at) await this.#change(POLL_SECONDS * 1000, signal)
      at = scannedTo
    }
    return undefined
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves when a new event was read, the signal is aborted, or the time is over. */
  #change(milliseconds: number, signal: AbortSignal): Promise<void> {
    return this.#wait(milliseconds, signal, (wake) => {
      this.#waiting.add(wake)
      return () => void this.#waiting.delete(wake)
    })
  }

  /**
   * Waits for an event that the reader gets, and returns it with those that were read with it: neither they nor events of
   * others cost a question. A page without events that is not the end has to be read.
   */
  async #nextPage(
    reader: FeedReader,
    after: number,
    limit: number,
    milliseconds: number,
    signal: AbortSignal,
  ): Promise<FeedPage> {
    // This process has not read the last events yet, or the reader has not.
    if (this.#tail === undefined) await this.#change(milliseconds, signal)
    if (this.#tail === undefined || after < this.#tail.position) {
      return { events: [], scannedTo: after, isEnd: false }
    }
    const matching: FeedEvent[] = []
    await this.#wait(milliseconds, signal, (wake) => {
      const onEvent = (event: FeedEvent) => {
        // The events after it in this turn are read, too.
        if (matching.push(event) === 1) setImmediate(wake)
      }
      const leave = this.#followers.add({ ...reader, onEvent }, after)
      this.#polls.add(wake)
      return () => {
        leave()
        this.#polls.delete(wake)
      }
    })
    const events = matching.slice(0, limit)
    const isEnd = events.length === matching.length
    // Followers got all events up to the tail.
    const scannedTo = isEnd ? this.#tail.position : (events.at(-1)?.position ?? after)
    return { events, scannedTo: Math.max(after, scannedTo), isEnd }
  }

  /** Resolves when `begin` calls its argument, the signal is aborted, or the time is over. `begin` returns its end. */
  async #wait(
    milliseconds: number,
    signal: AbortSignal,
    begin: (wake: () => void) => () => void,
  ): Promise<void> {
    if (signal.aborted || this.#isStopped) return
    await new Promise<void>((resolve) => {
      const wake = () => {
        clearTimeout(timer)
        end()
        signal.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, milliseconds)
      const end = begin(wake)
      signal.addEventListener('abort', wake)
    })
  }

  /** Returns every matching tag, and the position as of which the tags are read. */
  async #snapshot(db: QuestionQueryable, reader: FeedReader) {
    for (let attempt = 1; ; attempt += 1) {
      const found = await db.snapshot((tx) => readSnapshot(tx, reader))
      if (!found.hasPendingEvents || attempt === SNAPSHOT_ATTEMPTS_MAX) return found
      // Otherwise a change that is in the snapshot would be sent again after it.
      await this.#options.flush()
    }
  }

  async #readNew(signal: AbortSignal): Promise<void> {
    this.#tail ??= await findFeedState(this.#options.db)
    while (!signal.aborted) {
      const { db } = this.#options
      const { events, scannedTo } = await listFeed(db, this.#tail.position, EVENTS_PER_READ_MAX)
      if (scannedTo === this.#tail.position) return
      for (let from = 0; from < events.length; from += EVENTS_PER_TURN_MAX) {
        const turn = events.slice(from, from + EVENTS_PER_TURN_MAX)
        this.#tail = { ...this.#tail, position: turn.at(-1)?.position ?? scannedTo }
        for (const event of turn) this.#deliver(event)
        // Lets sockets send what they have before there is more.
        await nextTurn()
      }
      this.#tail = { ...this.#tail, position: scannedTo }
      this.#wakeAll()
    }
  }

  #deliver(event: FeedEvent): void {
    for (const { follower, after } of this.#followers.of(event.repository)) {
      if (event.position <= after || !matchesFilter(follower.filter, event)) continue
      if (maySee(follower, event)) follower.onEvent(event)
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
