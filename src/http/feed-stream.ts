import { type Caller, maySeeActors, maySeeHosts } from '../auth/access.ts'
import { withoutActor, withoutReason } from '../events/cloud-event.ts'
import type { FeedCursors } from '../events/cursor.ts'
import { hasReasonOfHosts } from '../events/event.ts'
import type { CurrentTag, FeedEvent, FeedSink, FeedStart } from '../feed/feed.ts'
import { visibleJson } from '../oci/hidden-characters.ts'
import { EventStream } from './event-stream.ts'
import type { RouteContext } from './route.ts'

export type FeedStreamOptions = {
  readonly cursors: FeedCursors
  /** Renders a tag of the snapshot. */
  renderTag(tag: CurrentTag): object
  /** Resolves to false when the client's credential is no longer valid. */
  isAuthenticated(): Promise<boolean>
}

/** Proxies close connections that are silent for a minute or less. */
const HEARTBEAT_MILLISECONDS = 15_000
/** A stream whose right was revoked ends after this time and the refresh of the list of revocations. */
const AUTHENTICATION_CHECK_MILLISECONDS = 2_000

/** Bodies without actors: made once for all followers. */
const withoutActors = new WeakMap<FeedEvent, string>()

/** Returns the event as webhooks get it, byte for byte; without its actor when the caller may not see it. */
export function eventBodyFor(caller: Caller, event: FeedEvent): string {
  const { repository, type } = event
  if (repository === null) return event.body
  const hidesReason = hasReasonOfHosts(type) && !maySeeHosts(caller, repository)
  const body = hidesReason ? withoutReason(event.body) : event.body
  if (maySeeActors(caller, repository)) return body
  const cached = withoutActors.get(event)
  if (cached !== undefined) return cached
  const shown = withoutActor(body)
  withoutActors.set(event, shown)
  return shown
}

/** The feed as Server-Sent Events: spec/events.md, "The feed". */
export class FeedStream implements FeedSink {
  readonly #ctx: RouteContext
  readonly #options: FeedStreamOptions
  #stream: EventStream | undefined
  #heartbeat: NodeJS.Timeout | undefined
  #check: NodeJS.Timeout | undefined
  #epoch = ''
  /** Undefined until the reader has caught up. */
  #deliveredUpTo: (() => number) | undefined

  constructor(ctx: RouteContext, options: FeedStreamOptions) {
    this.#ctx = ctx
    this.#options = options
  }

  /** True when the headers were sent, so that no error can be answered any more. */
  get hasStarted(): boolean {
    return this.#stream !== undefined
  }

  async onStart({ epoch, position, reset, tags }: FeedStart): Promise<void> {
    const stream = new EventStream(this.#ctx)
    this.#stream = stream
    this.#epoch = epoch
    this.#check = setInterval(
      () => void this.#endIfRevoked(stream),
      AUTHENTICATION_CHECK_MILLISECONDS,
    )
    const id = this.#cursor(position)
    if (reset !== undefined && tags === undefined) {
      stream.send({ id, event: 'reset', data: JSON.stringify({ reason: reset, cursor: id }) })
    }
    // Without an id: a client that is disconnected within a snapshot has to start it anew.
    if (reset !== undefined && tags !== undefined) {
      stream.send({ event: 'reset', data: JSON.stringify({ reason: reset }) })
    }
    for (const tag of tags ?? []) {
      stream.send({ event: 'snapshot', data: visibleJson(this.#options.renderTag(tag)) })
      await stream.drained()
    }
    if (tags === undefined) stream.send({ id })
    else stream.send({ id, event: 'live', data: JSON.stringify({ tags: tags.length, cursor: id }) })
    this.#heartbeat = setInterval(() => this.#beat(stream), HEARTBEAT_MILLISECONDS)
  }

  onEvent(event: FeedEvent): void {
    const { position, type } = event
    const id = this.#options.cursors.ofEvent({ epoch: this.#epoch, position })
    this.#stream?.send({ id, event: type, data: eventBodyFor(this.#ctx.state.caller, event) })
    if (this.#deliveredUpTo !== undefined) this.#stream?.disconnectIfBehind()
  }

  async drained(): Promise<void> {
    await this.#stream?.drained()
  }

  onLive(deliveredUpTo: () => number): void {
    this.#deliveredUpTo = deliveredUpTo
  }

  /** Ends the stream; the client may reconnect at once. */
  end(): void {
    clearInterval(this.#heartbeat)
    clearInterval(this.#check)
    this.#stream?.end()
  }

  /** Ends the stream of a client whose credential is no longer valid. */
  async #endIfRevoked(stream: EventStream): Promise<void> {
    const holds = await this.#options.isAuthenticated().catch(() => false)
    if (!holds) stream.end()
  }

  #beat(stream: EventStream): void {
    const position = this.#deliveredUpTo?.()
    if (position !== undefined) stream.send({ id: this.#cursor(position) })
    stream.comment('still here')
  }

  #cursor(position: number): string {
    return this.#options.cursors.format({ epoch: this.#epoch, position })
  }
}
