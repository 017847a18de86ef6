import { setImmediate as nextTurn } from 'node:timers/promises'
import { allows, type Caller, maySeeHosts, pullablePatterns } from '../../auth/access.ts'
import type { Cursor, FeedCursors } from '../../events/cursor.ts'
import { DEFAULT_TYPES, type EventType, FILTERABLE_TYPES } from '../../events/event.ts'
import type { EventFilter } from '../../events/filter.ts'
import { parseCursor } from '../../feed/cursor.ts'
import type { CurrentTag, Feed, FeedAnswer, FeedReader } from '../../feed/feed.ts'
import { invalidQuery, RegistryError, unauthorized } from '../../oci/errors.ts'
import { type Glob, parseRepositoryGlob, parseTagGlob } from '../../oci/glob.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import { eventBodyFor, FeedStream } from '../feed-stream.ts'
import type { QueryParameters } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryAll, queryOnce, type Route, type RouteContext } from '../route.ts'
import type { StreamLimit } from '../stream-limit.ts'
import { abortedOnClose } from '../waiting.ts'

export type EventRouteDeps = {
  readonly feed: Feed
  readonly cursors: FeedCursors
  readonly connections: StreamLimit
  /** Host and port that clients put before a repository's name. */
  registry(): string
}

/** The parameters of a request. */
type FeedRequest = {
  readonly reader: FeedReader
  readonly cursor: Cursor | undefined
  readonly withSnapshot: boolean
  /** For pages. */
  readonly waitSeconds: number
  readonly limit: number
}

const PATH = '/api/v1/events'
const PARAMETERS = {
  repository: 'many',
  tag: 'many',
  type: 'many',
  after: 'once',
  snapshot: 'once',
  wait: 'once',
  n: 'once',
} as const satisfies QueryParameters
const PATTERNS_MAX = 50
/** Patterns with a star: each is compared with every event. */
const STAR_PATTERNS_MAX = 8
const WAIT_SECONDS_MAX = 60
const PAGE_DEFAULT = 100
const PAGE_MAX = 1000
const ANY = ['**' as Glob]
/** Tags of a snapshot that are rendered at once. */
const TAGS_A_TURN = 500

/** The feed of events, as a stream or in pages: spec/events.md, "The feed". */
export function eventRoutes(deps: EventRouteDeps, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: PATH,
      access: 'publicRead',
      query: PARAMETERS,
      reads: 'question',
      async handle(ctx) {
        const request = readFeedRequest(ctx, deps)
        const wantsStream = ctx.headers.accept?.includes('text/event-stream') === true
        if (wantsStream && ctx.method === 'HEAD') describeStream(ctx)
        else
          await (wantsStream
            ? stream(ctx, request, deps, ask)
            : answerPage(ctx, request, deps, ask))
      },
    },
  ]
}

function readFeedRequest(ctx: RouteContext, { cursors }: EventRouteDeps): FeedRequest {
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
  const text = header ?? queryOnce(ctx, 'after')
  return {
    reader: {
      filter,
      seesAll: caller.kind === 'admin',
      visible: pullablePatterns(caller),
      mayPull: (repository) => allows(caller, 'pull', repository),
      maySeeHosts: (repository) => maySeeHosts(caller, repository),
    },
    cursor: text === undefined ? undefined : parseCursor(cursors, text),
    withSnapshot: readFlag(ctx, 'snapshot'),
    waitSeconds: readNumber(ctx, 'wait', WAIT_SECONDS_MAX, 0),
    limit: readNumber(ctx, 'n', PAGE_MAX, PAGE_DEFAULT),
  }
}

function patterns(ctx: RouteContext, name: string, parse: (text: string) => Glob): Glob[] {
  const texts = queryAll(ctx, name)
  if (texts.length > PATTERNS_MAX)
    throw invalidParameter(name, `may be given at most ${PATTERNS_MAX} times`)
  const globs = texts.map(parse)
  if (globs.filter((glob) => glob.includes('*')).length > STAR_PATTERNS_MAX)
    throw invalidParameter(name, `may have a star in at most ${STAR_PATTERNS_MAX} patterns`)
  return globs
}

function readTypes(ctx: RouteContext): readonly EventType[] {
  const texts = queryAll(ctx, 'type')
  const wanted = FILTERABLE_TYPES.filter((type) => texts.includes(type))
  if (texts.some((text) => !FILTERABLE_TYPES.some((type) => type === text))) {
    throw invalidParameter('type', `must be one of ${FILTERABLE_TYPES.join(', ')}`)
  }
  return texts.length === 0 ? DEFAULT_TYPES : wanted
}

function readFlag(ctx: RouteContext, name: string): boolean {
  const text = queryOnce(ctx, name)
  if (text !== undefined && text !== '0' && text !== '1')
    throw invalidParameter(name, 'must be 0 or 1')
  return text === '1'
}

function readNumber(ctx: RouteContext, name: string, max: number, defaultValue: number): number {
  const text = queryOnce(ctx, name)
  if (text === undefined) return defaultValue
  if (!/^\d{1,6}$/.test(text) || Number(text) > max) {
    throw invalidParameter(name, `must be a whole number from 0 to ${max}`)
  }
  return Number(text)
}

function invalidParameter(parameter: string, rule: string): RegistryError {
  return invalidQuery(`${parameter} ${rule}`, { parameter })
}

async function answerPage(
  ctx: RouteContext,
  request: FeedRequest,
  deps: EventRouteDeps,
  ask: AskQuestion,
): Promise<void> {
  const { reader, cursor, withSnapshot, waitSeconds, limit } = request
  const stopping = abortedOnClose(ctx)
  const { signal } = stopping
  const poll = () =>
    deps.feed.longPoll(ask(ctx), reader, cursor, { waitSeconds, limit, withSnapshot, signal })
  const waits = waitSeconds > 0 && limit > 0
  const page = await (waits ? deps.connections.run(ctx.state.address, stopping, poll) : poll())
  // A client that waited may have lost the right to read the page.
  if (waits && !(await ctx.state.isAuthenticated())) {
    throw unauthorized('the credential has expired')
  }
  ctx.set('Cache-Control', 'no-store')
  ctx.type = 'application/json'
  ctx.body = await renderPage(page, ctx.state.caller, deps)
}

async function renderPage(page: FeedAnswer, caller: Caller, deps: EventRouteDeps): Promise<string> {
  const { events, epoch, position, isEnd, reset, tags } = page
  const rest = visibleJson({
    cursor: deps.cursors.format({ epoch, position }),
    more: !isEnd,
    ...(reset === undefined ? {} : { reset: { reason: reset } }),
  })
  const snapshot = tags === undefined ? '' : `"snapshot":${await renderTags(tags, deps)},`
  const bodies = events.map((event) => eventBodyFor(caller, event))
  return `{"events":[${bodies.join(',')}],${snapshot}${rest.slice(1)}`
}

/** Other requests run between the parts of a large snapshot. */
async function renderTags(tags: readonly CurrentTag[], deps: EventRouteDeps): Promise<string> {
  const parts: string[] = []
  for (let at = 0; at < tags.length; at += TAGS_A_TURN) {
    const part = tags.slice(at, at + TAGS_A_TURN).map((tag) => renderTag(tag, deps))
    parts.push(visibleJson(part).slice(1, -1))
    await nextTurn()
  }
  return `[${parts.join(',')}]`
}

function describeStream(ctx: RouteContext): void {
  ctx.set('Cache-Control', 'no-store')
  ctx.type = 'text/event-stream'
  ctx.body = ''
  ctx.remove('Content-Length')
}

async function stream(
  ctx: RouteContext,
  request: FeedRequest,
  deps: EventRouteDeps,
  ask: AskQuestion,
): Promise<void> {
  const { reader, cursor, withSnapshot } = request
  const stopping = abortedOnClose(ctx)
  const sink = new FeedStream(ctx, {
    cursors: deps.cursors,
    renderTag: (tag) => renderTag(tag, deps),
    isAuthenticated: () => ctx.state.isAuthenticated(),
  })
  const { signal } = stopping
  const open = () => deps.feed.open(ask(ctx), reader, cursor, sink, { withSnapshot, signal })
  try {
    await deps.connections.run(ctx.state.address, stopping, open)
  } catch (error) {
    // After the headers an error can only end the stream. The client resumes.
    if (!sink.hasStarted || !(error instanceof RegistryError)) throw error
  } finally {
    sink.end()
  }
}

function renderTag(tag: CurrentTag, { registry }: EventRouteDeps): object {
  return { registry: registry(), ...tag }
}
