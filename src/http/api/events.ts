import { allows, pullablePatterns } from '../../auth/access.ts'
import type { Authenticator } from '../../auth/authenticator.ts'
import { formatCursor } from '../../events/cursor.ts'
import { type EventType, SUBSCRIBABLE_TYPES } from '../../events/event.ts'
import type { EventFilter } from '../../events/filter.ts'
import { parseCursor, resetReason } from '../../feed/cursor.ts'
import type { Feed, FeedEvent, FeedReader, FeedState } from '../../feed/feed.ts'
import { invalidQuery, RegistryError, unauthorized } from '../../oci/errors.ts'
import { type Glob, parseRepositoryGlob, parseTagGlob } from '../../oci/glob.ts'
import { type ConnectionLimit, EventStream } from '../event-stream.ts'
import { queryAll, queryOnce, type Route, type RouteContext } from '../route.ts'

export type EventRouteDeps = {
  readonly feed: Feed
  readonly connections: ConnectionLimit
  readonly authenticator: Authenticator
  /** Host and port that clients put before a repository's name. */
  registry(): string
}

/** What a client asked for. */
type Question = {
  readonly viewer: FeedReader
  readonly cursor: string | undefined
  readonly withSnapshot: boolean
}

const PATH = '/api/v1/events'
const PATTERNS_MAX = 50
const WAIT_SECONDS_MAX = 60
const PAGE_DEFAULT = 100
const PAGE_MAX = 1000
const ANY = ['**' as Glob]
/** Proxies cut what is silent for a minute or less. */
const COMMENT_MILLISECONDS = 15_000

/** What happens, as a stream or page by page: spec/events.md, "The feed". */
export function eventRoutes(parts: EventRouteDeps): Route[] {
  return [
    {
      method: 'GET',
      path: PATH,
      access: 'look',
      async handle(ctx) {
        const question = readQuestion(ctx)
        const wantsStream = ctx.headers.accept?.includes('text/event-stream') === true
        if (wantsStream && ctx.method === 'HEAD') describeStream(ctx)
        else await (wantsStream ? stream(ctx, question, parts) : answerPage(ctx, question, parts))
      },
    },
  ]
}

function readQuestion(ctx: RouteContext): Question {
  const { caller } = ctx.state
  const tags = patterns(ctx, 'tag', parseTagGlob)
  const repositories = patterns(ctx, 'repository', parseRepositoryGlob)
  const filter: EventFilter = {
    types: readTypes(ctx),
    repositories: repositories.length === 0 ? ANY : repositories,
    tags: tags.length === 0 ? null : tags,
  }
  const lastEventId = ctx.headers['last-event-id']
  const header = typeof lastEventId === 'string' && lastEventId !== '' ? lastEventId : undefined
  return {
    viewer: {
      filter,
      visible: caller.kind === 'admin' ? null : pullablePatterns(caller),
      mayPull: (repository) => allows(caller, 'pull', repository),
    },
    cursor: header ?? queryOnce(ctx, 'after'),
    withSnapshot: readFlag(ctx, 'snapshot'),
  }
}

function patterns(ctx: RouteContext, name: string, parse: (text: string) => Glob): Glob[] {
  const texts = queryAll(ctx, name)
  if (texts.length > PATTERNS_MAX) throw invalid(name, `stands at most ${PATTERNS_MAX} times`)
  return texts.map(parse)
}

function readTypes(ctx: RouteContext): readonly EventType[] {
  const texts = queryAll(ctx, 'type')
  const wanted = SUBSCRIBABLE_TYPES.filter((type) => texts.includes(type))
  if (texts.some((text) => !SUBSCRIBABLE_TYPES.some((type) => type === text))) {
    throw invalid('type', `is one of ${SUBSCRIBABLE_TYPES.join(', ')}`)
  }
  return texts.length === 0 ? SUBSCRIBABLE_TYPES : wanted
}

function readFlag(ctx: RouteContext, name: string): boolean {
  const text = queryOnce(ctx, name)
  if (text !== undefined && text !== '0' && text !== '1') throw invalid(name, 'is 0 or 1')
  return text === '1'
}

function readNumber(ctx: RouteContext, name: string, most: number, otherwise: number): number {
  const text = queryOnce(ctx, name)
  if (text === undefined) return otherwise
  if (!/^\d{1,6}$/.test(text) || Number(text) > most) {
    throw invalid(name, `is a whole number from 0 to ${most}`)
  }
  return Number(text)
}

function invalid(parameter: string, rule: string): RegistryError {
  return invalidQuery(`${parameter} ${rule}`, { parameter })
}

/** Where a client begins, and why not where it says. */
function beginning({ cursor }: Question, places: FeedState) {
  if (cursor === undefined) return { at: places.position, reset: undefined }
  const parsed = parseCursor(cursor)
  const reset = resetReason(parsed, places)
  return { at: reset === undefined ? parsed.position : places.position, reset }
}

async function answerPage(
  ctx: RouteContext,
  question: Question,
  parts: EventRouteDeps,
): Promise<void> {
  const { feed, connections: waiters } = parts
  const { viewer } = question
  const seconds = readNumber(ctx, 'wait', WAIT_SECONDS_MAX, 0)
  const limit = readNumber(ctx, 'n', PAGE_MAX, PAGE_DEFAULT)
  const begun = await begin(question, parts)
  let { position, isEnd } = begun
  let events: FeedEvent[] = []
  let isOver = begun.reset !== undefined || begun.tags !== undefined
  const closing = new AbortController()
  const close = () => closing.abort()
  const look = async (): Promise<void> => {
    const deadline = performance.now() + seconds * 1000
    for (;;) {
      const found = await feed.page(position, viewer, limit)
      events = found.events
      position = found.scannedTo
      isEnd = found.isEnd
      const left = deadline - performance.now()
      if (isOver || events.length > 0 || ctx.res.destroyed || left <= 0) return
      if (isEnd) await feed.change(left, closing.signal)
    }
  }
  const end = () => {
    isOver = true
    feed.wake()
  }
  ctx.res.once('close', close)
  if (limit > 0) await (seconds > 0 ? waiters.run(ctx.state.address, end, look) : look())
  ctx.res.off('close', close)
  // Who waited may have lost the right to hear it.
  if (seconds > 0 && !(await stillHolds(ctx, parts.authenticator))) {
    throw unauthorized('the credential has expired')
  }
  ctx.set('Cache-Control', 'no-store')
  ctx.type = 'application/json'
  const rest = JSON.stringify({
    cursor: formatCursor({ epoch: begun.epoch, position }),
    more: !isEnd,
    ...(begun.reset === undefined ? {} : { reset: { reason: begun.reset } }),
    ...(begun.tags === undefined ? {} : { snapshot: begun.tags }),
  })
  // The events letter by letter as they were sent to others.
  ctx.body = `{"events":[${events.map(({ body }) => body).join(',')}],${rest.slice(1)}`
}

/** The place from which a client goes on; with what it needs to begin, if it cannot go on. */
async function begin(question: Question, { feed, registry }: EventRouteDeps) {
  const places = await feed.state()
  const { at, reset } = beginning(question, places)
  const isEnd = at >= places.position
  const begun = { epoch: places.epoch, position: at, isEnd, reset, tags: undefined }
  const isNew = question.cursor === undefined || reset !== undefined
  if (!question.withSnapshot || !isNew) return begun
  const { tags, position } = await feed.snapshot(question.viewer)
  const shown = tags.map((tag) => ({ registry: registry(), ...tag }))
  return { ...begun, position, tags: shown }
}

function describeStream(ctx: RouteContext): void {
  ctx.set('Cache-Control', 'no-store')
  ctx.type = 'text/event-stream'
  ctx.body = ''
  ctx.remove('Content-Length')
}

async function stream(ctx: RouteContext, question: Question, parts: EventRouteDeps): Promise<void> {
  const { connections: waiters } = parts
  let opened: EventStream | undefined
  const end = () => opened?.end()
  await waiters.run(ctx.state.address, end, async () => {
    const { epoch, position, reset, tags } = await begin(question, parts)
    const cursorAt = (at: number) => formatCursor({ epoch, position: at })
    const sink = new EventStream(ctx)
    opened = sink
    if (reset !== undefined) {
      const cursor = cursorAt(position)
      // What is cut off within a snapshot begins anew: only its end is a place to go on from.
      if (tags !== undefined) sink.send({ event: 'reset', data: JSON.stringify({ reason: reset }) })
      else
        sink.send({ id: cursor, event: 'reset', data: JSON.stringify({ reason: reset, cursor }) })
    }
    for (const tag of tags ?? []) {
      sink.send({ event: 'snapshot', data: JSON.stringify(tag) })
      await sink.drained()
    }
    const id = cursorAt(position)
    if (tags === undefined) sink.send({ id })
    else sink.send({ id, event: 'live', data: JSON.stringify({ tags: tags.length, cursor: id }) })
    await followFeed(ctx, question.viewer, position, sink, parts, cursorAt)
  })
}

async function followFeed(
  ctx: RouteContext,
  viewer: FeedReader,
  position: number,
  sink: EventStream,
  { feed, authenticator }: EventRouteDeps,
  cursorAt: (position: number) => string,
): Promise<void> {
  let isLive = false
  let told = position
  const follower = {
    ...viewer,
    onEvent(event: FeedEvent) {
      told = event.position
      sink.send({ id: cursorAt(event.position), event: event.type, data: event.body })
      if (isLive) sink.disconnectIfBehind()
    },
    drained: () => sink.drained(),
  }
  const ticking = setInterval(() => {
    stillHolds(ctx, authenticator).then(
      (holds) => {
        if (!holds) sink.end()
        else if (isLive) sink.send({ id: cursorAt(feed.deliveredUpTo(told)) })
        sink.comment('still here')
      },
      () => sink.end(),
    )
  }, COMMENT_MILLISECONDS)
  try {
    const leave = await feed.follow(follower, position, () => sink.isOpen)
    isLive = true
    await sink.closed
    leave()
  } catch (error) {
    // The answer has begun, so all that can be said is its end. The client comes back.
    if (!(error instanceof RegistryError)) throw error
  } finally {
    clearInterval(ticking)
    sink.end()
  }
}

/** False when what the client came with is not believed any more. */
async function stillHolds(ctx: RouteContext, authenticator: Authenticator): Promise<boolean> {
  const { authorization } = ctx.headers
  if (authorization === undefined) return true
  const { caller } = await authenticator.authenticate(authorization, ctx.state.address)
  return caller.kind !== 'holder' || caller.expiredAt === undefined
}
