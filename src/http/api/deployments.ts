import {
  allows,
  type Caller,
  hostPatterns,
  maySeeActors,
  maySeeHosts,
  pullablePatterns,
} from '../../auth/access.ts'
import { DEPLOYMENT_STATES, type DeploymentState } from '../../deployments/states.ts'
import type {
  DeploymentFilter,
  DeploymentPage,
  DeploymentRow,
  DeploymentWatch,
  WatchedDeployment,
} from '../../deployments/watch.ts'
import { type Digest, digestOf, parseDigest } from '../../oci/digest.ts'
import { badRequest, invalidQuery, notFound, unauthorized } from '../../oci/errors.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import { parseTag } from '../../oci/reference.ts'
import { isUuid, isUuidInAnyCase, uuidNumbers, uuidOfNumbers } from '../../oci/uuid.ts'
import { EventStream } from '../event-stream.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, type RouteContext, viewOf } from '../route.ts'
import type { StreamLimit } from '../stream-limit.ts'
import { abortedOnClose } from '../waiting.ts'
import { deploymentJson, deploymentLine, logJson } from './deployment-json.ts'

export type DeploymentRouteDeps = {
  readonly watch: DeploymentWatch
  readonly connections: StreamLimit
}

export const DEPLOYMENT = '/api/v1/deployments/:deployment'
const LIMIT = 20
/** A list counts the targets of each deployment. */
const LIMIT_MAX = 100
/** Numbers of a cursor that is an id. */
const ID_NUMBERS = 3
const WAIT_SECONDS_MAX = 55
const STREAM_MILLISECONDS_MAX = 3_600_000
/** Proxies close connections that are silent for a minute or less. */
const HEARTBEAT_MILLISECONDS = 15_000
/** A stream whose right was revoked ends after this time and the refresh of the list of revocations. */
const AUTHENTICATION_CHECK_MILLISECONDS = 2_000
/** Parts of logs that are sent at once. The next ones follow with the next change. */
const LOGS_AT_ONCE = 100

/** Lists deployments, and shows one: at once, when it changes, or as a stream. */
export function deploymentRoutes(
  deps: DeploymentRouteDeps,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/deployments',
      access: 'authenticated',
      query: { ...PAGE, state: 'once' },
      reads: 'question',
      async handle(ctx) {
        const limit = Math.min(pageLimit(ctx, LIMIT), LIMIT_MAX)
        const { deployments, next } = await listVisible(ctx, deps, ask, cursors, limit)
        if (next !== undefined && limit > 0) {
          const query = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...query, last: next, n: String(limit) })
        }
        ctx.body = { deployments: deployments.map((one) => deploymentJson(one, ctx.state.caller)) }
      },
    },
    {
      method: 'GET',
      path: '/api/v1/repositories/*repository/deployments',
      access: 'pull',
      needsLogin: true,
      query: { ...PAGE, tag: 'once', digest: 'once' },
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const limit = Math.min(pageLimit(ctx, LIMIT), LIMIT_MAX)
        const [filter, last] = [filterOf(ctx), lastOf(ctx)]
        const found = await deps.watch.list(ask(ctx), viewOf(ctx), filter, last, limit + 1)
        const shown = found.slice(0, limit)
        if (limit > 0 && found.length > limit) {
          const query = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...query, last: shown.at(-1)?.id, n: String(limit) })
        }
        ctx.body = { deployments: shown.map((one) => deploymentJson(one, caller)) }
      },
    },
    {
      method: 'GET',
      path: DEPLOYMENT,
      access: 'authenticated',
      query: { wait: 'once' },
      reads: 'rows',
      async handle(ctx) {
        const id = deploymentIdOf(ctx)
        const seconds = waitOf(ctx)
        ctx.vary('Accept')
        const wantsStream = ctx.headers.accept?.includes('text/event-stream') === true
        if (wantsStream && ctx.method !== 'HEAD') await stream(ctx, deps, id)
        else await answer(ctx, deps, id, seconds)
      },
    },
  ]
}

/** Lists a page of the deployments that the caller may see. `next` is the cursor of the next one. Throws QUERY_INVALID. */
export async function listVisible(
  ctx: RouteContext,
  { watch }: Pick<DeploymentRouteDeps, 'watch'>,
  ask: AskQuestion,
  cursors: PageCursors,
  limit: number,
): Promise<DeploymentPage> {
  const { caller } = ctx.state
  const [state, numbers] = [stateOf(ctx), cursors.readNumbers(ctx, ID_NUMBERS)]
  const before = numbers === undefined ? undefined : uuidOfNumbers(numbers)
  if (before !== undefined && !isUuid(before)) throw invalidLast()
  const patterns = [...pullablePatterns(caller), ...hostPatterns(caller)]
  const may = (deployment: DeploymentRow) => maySee(caller, deployment)
  const page = await watch.listVisible(ask(ctx), state, patterns, may, before, limit)
  const next = page.next === undefined ? undefined : cursors.format(...uuidNumbers(page.next))
  return { deployments: page.deployments, next }
}

function stateOf(ctx: RouteContext): DeploymentState | undefined {
  const given = queryOnce(ctx, 'state') || undefined
  const state = DEPLOYMENT_STATES.find((one) => one === given)
  if (given === undefined || state !== undefined) return state
  throw invalidQuery(
    `state must be one of ${DEPLOYMENT_STATES.join(', ')}, not "${given.slice(0, 32)}"`,
  )
}

/** Reads the id of a deployment from the path. Throws REQUEST_INVALID. */
export function deploymentIdOf(ctx: RouteContext): string {
  const id = param(ctx, 'deployment')
  if (!isUuidInAnyCase(id)) throw badRequest('the id of a deployment must be a UUID')
  return id.toLowerCase()
}

/** Reads a deployment that the caller may see. Throws NOT_FOUND: a hidden one looks like one that does not exist. */
export async function requireDeployment(
  { watch }: Pick<DeploymentRouteDeps, 'watch'>,
  id: string,
  caller: Caller,
): Promise<WatchedDeployment> {
  return requireVisible(id, await watch.read(id), caller)
}

function requireVisible(
  id: string,
  found: WatchedDeployment | undefined,
  caller: Caller,
): WatchedDeployment {
  if (found === undefined || !maySee(caller, found)) {
    throw notFound(`there is no deployment ${id}, or this credential may not pull its repository`)
  }
  return found
}

function maySee(caller: Caller, { repository, visibility }: DeploymentRow): boolean {
  if (visibility === 'public' || maySeeHosts(caller, repository)) return true
  return allows(caller, 'pull', repository)
}

function filterOf(ctx: RouteContext): DeploymentFilter {
  const [tag, digest] = ['tag', 'digest'].map((name) => queryOnce(ctx, name) || undefined)
  return {
    tag: tag === undefined ? undefined : parseTag(tag),
    digest: digest === undefined ? undefined : parseDigest(digest),
  }
}

function lastOf(ctx: RouteContext): string | undefined {
  const last = queryOnce(ctx, 'last')
  if (last === undefined || isUuid(last)) return last
  throw invalidLast()
}

function invalidLast() {
  return invalidQuery("last must be the cursor from the previous page's Link header")
}

function waitOf(ctx: RouteContext): number {
  const text = queryOnce(ctx, 'wait') ?? '0'
  if (/^\d{1,2}$/.test(text) && Number(text) <= WAIT_SECONDS_MAX) return Number(text)
  throw invalidQuery(`wait must be a whole number of seconds from 0 to ${WAIT_SECONDS_MAX}`, {
    parameter: 'wait',
  })
}

type Shown = { readonly body: string; readonly tag: Digest }

/** Requests that wait share a read, and most of them see the same of it. */
const shownBefore = new WeakMap<WatchedDeployment, Map<string, Shown>>()

function shownOf(deployment: WatchedDeployment, caller: Caller, asLine: boolean): Shown {
  const { repository } = deployment
  const sees = [maySeeHosts, maySeeActors].map((may) => may(caller, repository))
  const key = [asLine, ...sees].join(' ')
  const before = shownBefore.get(deployment) ?? new Map<string, Shown>()
  shownBefore.set(deployment, before)
  const present = before.get(key)
  if (present !== undefined) return present
  const body = asLine ? deploymentLine(deployment) : visibleJson(deploymentJson(deployment, caller))
  const shown = { body, tag: digestOf(Buffer.from(body)) }
  before.set(key, shown)
  return shown
}

/** Answers with the deployment: at once, or when it differs from what the client has. */
async function answer(
  ctx: RouteContext,
  deps: DeploymentRouteDeps,
  id: string,
  seconds: number,
): Promise<void> {
  const { caller, address } = ctx.state
  const asLine = ctx.accepts('application/json', 'text/plain') === 'text/plain'
  const cached = ctx.headers['if-none-match']
  const { watch } = deps
  const look = async () => {
    const found = await (seconds > 0 ? watch.readNext(id) : watch.read(id))
    return shownOf(requireVisible(id, found, caller), caller, asLine)
  }
  let shown = await look()
  if (seconds > 0 && isNotModified(cached, shown.tag)) {
    const stopping = abortedOnClose(ctx)
    const lookAgain = async () => {
      shown = await look()
      return !isNotModified(cached, shown.tag)
    }
    await deps.connections.run(address, stopping, () =>
      watch.follow(id, seconds * 1000, stopping.signal, lookAgain),
    )
    // A client that waited may have lost the right to read the answer.
    if (!(await ctx.state.isAuthenticated())) {
      throw unauthorized('the credential has expired')
    }
  }
  ctx.set({ ETag: entityTag(shown.tag), 'Cache-Control': 'private, no-cache' })
  if (isNotModified(cached, shown.tag)) {
    ctx.status = 304
    return
  }
  ctx.body = shown.body
  ctx.set('Content-Type', asLine ? 'text/plain; charset=utf-8' : 'application/json; charset=utf-8')
}

/** Sends the deployment at each change, and what its kernels print, until it ends. */
export async function stream(
  ctx: RouteContext,
  deps: DeploymentRouteDeps,
  id: string,
): Promise<void> {
  const { caller, address } = ctx.state
  const first = await requireDeployment(deps, id, caller)
  const lastId = ctx.headers['last-event-id']
  let sent = typeof lastId === 'string' ? lastId : ''
  if (first.finishedAt !== null && sent === shownOf(first, caller, false).tag) {
    // An EventSource does not connect again then (HTML, section 9.2.3).
    ctx.status = 204
    return
  }
  const stopping = abortedOnClose(ctx)
  await deps.connections.run(address, stopping, async () => {
    const events = new EventStream(ctx)
    const heartbeat = setInterval(() => events.comment('still here'), HEARTBEAT_MILLISECONDS)
    const check = setInterval(
      () => void endIfRevoked(ctx, stopping),
      AUTHENTICATION_CHECK_MILLISECONDS,
    )
    let logged = 0
    const look = async () => {
      const found = requireVisible(id, await deps.watch.readNext(id), caller)
      for (const log of await newLogs(deps, found, caller, logged)) {
        events.send({ event: 'log', data: visibleJson(logJson(log)) })
        logged = log.id
      }
      const { body, tag } = shownOf(found, caller, false)
      if (tag !== sent) events.send({ id: tag, event: 'deployment', data: body })
      sent = tag
      events.disconnectIfBehind()
      return found.finishedAt !== null
    }
    try {
      await deps.watch.follow(id, STREAM_MILLISECONDS_MAX, stopping.signal, look)
    } finally {
      clearInterval(heartbeat)
      clearInterval(check)
      events.end()
    }
  })
}

function newLogs(
  { watch }: DeploymentRouteDeps,
  { id, repository }: DeploymentRow,
  caller: Caller,
  after: number,
) {
  return maySeeHosts(caller, repository) ? watch.logs(id, after, LOGS_AT_ONCE) : []
}

async function endIfRevoked(ctx: RouteContext, stopping: AbortController): Promise<void> {
  const holds = await ctx.state.isAuthenticated().catch(() => false)
  if (!holds) stopping.abort()
}
