import { hostPatterns, pullablePatterns } from '../../auth/access.ts'
import { DEPLOYMENT_STATES, type DeploymentState } from '../../deployments/states.ts'
import type { DeploymentFilter, DeploymentPage, DeploymentRow } from '../../deployments/watch.ts'
import { parseDigest } from '../../oci/digest.ts'
import { invalidQuery, unauthorized } from '../../oci/errors.ts'
import { parseTag } from '../../oci/reference.ts'
import { isUuid, uuidNumbers, uuidOfNumbers } from '../../oci/uuid.ts'
import { pageLimit, setNextLink } from '../pages.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext, viewOf } from '../route.ts'
import { abortedOnClose } from '../waiting.ts'
import { deploymentJson, showDeployment } from './deployment-json.ts'
import { streamDeployment } from './deployment-stream.ts'
import {
  type DeploymentRouteDeps,
  deploymentIdOf,
  maySee,
  requireVisible,
} from './visible-deployment.ts'

export const DEPLOYMENT = '/api/v1/deployments/:deployment'
const LIMIT = 20
/** A list counts the targets of each deployment. */
const LIMIT_MAX = 100
/** Numbers of a cursor that is an id. */
const ID_NUMBERS = 3
const WAIT_SECONDS_MAX = 55

/** Lists deployments, and shows one: at once, when it changes, or as a stream. */
export function deploymentRoutes(deps: DeploymentRouteDeps, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/deployments',
      access: 'authenticated',
      query: { ...PAGE, state: 'once' },
      reads: 'question',
      async handle(ctx) {
        const limit = Math.min(pageLimit(ctx, LIMIT), LIMIT_MAX)
        const { deployments, next } = await listVisible(ctx, deps, ask, limit)
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
        if (wantsStream && ctx.method !== 'HEAD') await streamDeployment(ctx, deps, id)
        else await answer(ctx, deps, id, seconds)
      },
    },
  ]
}

/** Lists a page of the deployments that the caller may see. `next` is the cursor of the next one. Throws QUERY_INVALID. */
export async function listVisible(
  ctx: RouteContext,
  { watch, cursors }: DeploymentRouteDeps,
  ask: AskQuestion,
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
    return showDeployment(requireVisible(id, found, caller), caller, asLine)
  }
  let shown = await look()
  if (seconds > 0 && isNotModified(cached, shown.tag)) {
    const stopping = abortedOnClose(ctx)
    const lookAgain = async () => {
      shown = await look()
      return isNotModified(cached, shown.tag) ? 'wait' : 'end'
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
