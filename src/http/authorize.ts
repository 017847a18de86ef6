import {
  type Action,
  ANONYMOUS,
  allowsTag,
  type Caller,
  type Decision,
  decide,
  hasAnyAccess,
  isAction,
  tagBoundsOf,
} from '../auth/access.ts'
import { type AuditLog, auditIdentity } from '../auth/audit.ts'
import type { Authentication } from '../auth/authentications.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Sessions } from '../auth/sessions.ts'
import { type BearerErrorCode, denied, RegistryError, unauthorized } from '../oci/errors.ts'
import { parseRepository, type Repository, type Tag } from '../oci/reference.ts'
import { challengeFor, withLoginAdvice } from './challenge.ts'
import type { Matched } from './matcher.ts'
import { assertQuery } from './query.ts'
import { boundedTo, loginNeeded, missingRight, nothingToPull } from './refusals.ts'
import { RequestBody } from './request-body.ts'
import type { Route, RouteContext } from './route.ts'
import { findSessionSecret } from './session-cookie.ts'

export type AuthorizationDeps = {
  readonly authenticator: Authenticator
  readonly sessions: Sessions
  readonly audit: AuditLog
  /** The audience of access tokens. */
  readonly service: string
  /** Returns the URL by which the client reached the registry, below which it gets tokens. */
  publicBaseUrl(ctx: RouteContext): string
  /** Throws UNAVAILABLE when the registry has no space for a push with a body of so many bytes. */
  assertRoom?(bodyBytes: number): Promise<void>
  /** Called for each request of a host, also one that is refused later. */
  onHostRequest?(hostId: number): void
}

/** A request as it is known before authentication. */
export type RequestInfo = { readonly requestId: string; readonly address: string }

/** One request on its way through authorization. The steps fill in the last three fields. */
type Authorization = {
  readonly ctx: RouteContext
  readonly route: Route
  readonly params: Matched['params']
  readonly deps: AuthorizationDeps
  readonly request: RequestInfo
  /** The repository of the path, if the path has one. */
  repository: Repository | undefined
  /** Undefined until the caller is authenticated, and for routes that need no access. */
  authentication: Authentication | undefined
  /** True when the handler may show only what is public. */
  publicOnly: boolean
}

/**
 * Authorizes a request and runs the route's handler. Every route passes through here, and nothing else
 * decides on access. Throws what `refuse` makes of a failure.
 */
export async function runAuthorized(
  ctx: RouteContext,
  { route, params }: Matched,
  deps: AuthorizationDeps,
  request: RequestInfo,
): Promise<void> {
  const context: Authorization = {
    ctx,
    route,
    params,
    deps,
    request,
    repository: undefined,
    authentication: undefined,
    publicOnly: false,
  }
  try {
    if (route.query !== 'any') assertQuery(ctx.querystring, route.query)
    await identify(context)
    permit(context)
    if (route.storesContent) await deps.assertRoom?.(ctx.state.body.length ?? 0)
    await route.handle(ctx)
  } catch (error) {
    throw refuse(context, error)
  }
}

/** Establishes the repository and the caller. Throws NAME_INVALID and what `authenticate` throws. */
async function identify(context: Authorization): Promise<void> {
  const { route, params, deps } = context
  // The repository comes first, because a challenge names it.
  context.repository =
    params.repository === undefined ? undefined : parseRepository(params.repository)
  if (route.access === 'none') return
  context.authentication = await authenticate(context)
  const { caller } = context.authentication
  if (caller.kind === 'holder' && caller.host !== undefined) deps.onHostRequest?.(caller.host.id)
}

/** The cookie of a session counts on pages alone, so that no other route has to distrust what a browser sends by itself. */
function authenticate({ ctx, route, deps, request }: Authorization): Promise<Authentication> {
  const { authorization } = ctx.headers
  const secret =
    route.page && authorization === undefined
      ? findSessionSecret(ctx, request.address, () => deps.publicBaseUrl(ctx))
      : undefined
  if (secret !== undefined) return deps.sessions.authenticate(secret, request.address)
  return deps.authenticator.authenticate(authorization, request.address)
}

async function isStillAuthenticated(context: Authorization): Promise<boolean> {
  const { caller } = await authenticate(context)
  // A session that ended leaves an anonymous caller.
  if (caller.kind === 'anonymous') return callerOf(context).kind === 'anonymous'
  return caller.kind !== 'holder' || caller.expiredAt === undefined
}

/** Checks the caller's rights and prepares the state for the handler. Throws UNAUTHORIZED and DENIED. */
function permit(context: Authorization): void {
  const { ctx, route, params, request, repository } = context
  const caller = callerOf(context)
  requireUnexpired(route, caller)
  // Before the decision, so that the answer says nothing about the repository.
  if (route.needsLogin && caller.kind === 'anonymous') {
    throw unauthorized(loginNeeded(route.access, repository))
  }
  const decision = decide(route.access, caller, repository, params.host)
  requireAllowed(decision, context, caller)
  context.publicOnly = decision === 'public-only'
  // Each field by itself: `...request` before a method would take 10 µs.
  ctx.state = {
    requestId: request.requestId,
    address: request.address,
    caller,
    networks: context.authentication?.networks,
    host: route.access === 'host' && caller.kind === 'holder' ? caller.host : undefined,
    params,
    repository,
    publicOnly: context.publicOnly,
    body: new RequestBody(ctx.req, ctx.res),
    bytesSent: 0,
    isAuthenticated: () => isStillAuthenticated(context),
  }
  requireTags(context, caller)
}

/**
 * Returns the error that the client sees in place of `error`: a private repository is masked, a refusal
 * is audited, and UNAUTHORIZED gets a challenge.
 */
function refuse(context: Authorization, error: unknown): unknown {
  const visible = context.publicOnly ? maskPrivate(context, error) : error
  const { ctx, deps } = context
  const isBasic = /^basic /i.test(ctx.headers.authorization ?? '')
  const refusal = isBasic ? withLoginAdvice(visible, () => deps.publicBaseUrl(ctx)) : visible
  if (!(refusal instanceof RegistryError)) return refusal
  if (isAudited(context, refusal)) auditRefusal(context, refusal)
  return refusal.code === 'UNAUTHORIZED' ? withChallenge(context, refusal) : refusal
}

function callerOf({ authentication }: Authorization): Caller {
  return authentication?.caller ?? ANONYMOUS
}

/** An expired token may only finish uploads: those routes say so. */
function requireUnexpired(route: Route, caller: Caller): void {
  if (caller.kind !== 'holder' || caller.expiredAt === undefined || route.allowsExpiredToken) return
  throw unauthorized(`the token expired at ${caller.expiredAt.toISOString()}`)
}

function requireAllowed(
  decision: Decision,
  {
    route,
    repository,
  }: Pick<Authorization, 'repository'> & { route: Pick<Route, 'access' | 'path'> },
  caller: Caller,
): void {
  if (decision === 'authenticate') throw unauthorized(loginNeeded(route.access, repository))
  if (decision !== 'refuse') return
  const isToken = caller.kind === 'holder' && caller.scheme === 'bearer'
  const message = missingRight(caller, route.access, repository)
  throw isToken && route.path.startsWith('/v2') ? unauthorized(message) : denied(message)
}

/** Requires the right to each tag that the route sets or removes. The row names them. */
function requireTags({ ctx, route, repository }: Authorization, caller: Caller): void {
  const { access } = route
  if (repository === undefined || !isAction(access)) return
  if (route.changesEveryTag && tagBoundsOf(caller, access, repository) !== undefined) {
    throw denied(`this changes the whole repository, and ${boundedTo(caller)}`)
  }
  if (route.tags === undefined) return
  const tag = route.tags(ctx).find((one) => !allowsTag(caller, access, repository, one))
  if (tag !== undefined) throw denied(missingRight(caller, access, repository, tag), { tag })
}

/**
 * Requires a right in a repository that a handler finds in the body or by another name, such as that of a job, and the right
 * to its tags. Throws UNAUTHORIZED and DENIED.
 */
export function requireRight(
  ctx: RouteContext,
  access: Action,
  repository: Repository,
  tags: readonly Tag[],
): void {
  const { caller } = ctx.state
  ctx.state.repository = repository
  const route = { access, path: ctx.path }
  requireAllowed(decide(access, caller, repository), { route, repository }, caller)
  const tag = tags.find((one) => !allowsTag(caller, access, repository, one))
  if (tag !== undefined) throw denied(missingRight(caller, access, repository, tag), { tag })
}

/** Makes a private repository look like one that does not exist to a caller without access to it. */
function maskPrivate(context: Authorization, error: unknown): unknown {
  if (!(error instanceof RegistryError) || error.code !== 'NAME_UNKNOWN') return error
  const caller = callerOf(context)
  const { repository } = context
  if (repository === undefined || context.route.page) return error
  const message = nothingToPull(caller, repository)
  // A client of the token protocol requests a token that covers more. A caller that may push there knows the name.
  const asksForToken =
    caller.kind === 'anonymous' || (caller.scheme === 'bearer' && !hasAnyAccess(caller, repository))
  if (asksForToken) return unauthorized(message, error)
  return new RegistryError('NAME_UNKNOWN', error.detail, { message, cause: error })
}

/** A challenge to a caller without credentials is no refusal. */
function isAudited({ ctx, authentication }: Authorization, { code }: RegistryError): boolean {
  const hasCredentials =
    authentication === undefined
      ? ctx.headers.authorization !== undefined
      : authentication.caller.kind !== 'anonymous'
  return hasCredentials && (code === 'UNAUTHORIZED' || code === 'DENIED')
}

function auditRefusal(context: Authorization, refusal: RegistryError): void {
  const { ctx, route, deps, request, authentication } = context
  const repository = context.repository ?? ctx.state.repository
  deps.audit.enqueue({
    ...(authentication === undefined ? {} : auditIdentity(authentication.caller)),
    action: authentication === undefined ? 'authenticate' : route.access,
    decision: 'refused',
    ...request,
    repository: repository ?? null,
    tags: refusedTag(refusal.detail),
    detail: `${route.method} ${route.path}: ${refusal.message}`,
  })
}

/** Returns the tag of `requireTags` from the detail of its error. */
function refusedTag(detail: unknown): [string] | null {
  const hasTag = typeof detail === 'object' && detail !== null && 'tag' in detail
  return hasTag && typeof detail.tag === 'string' ? [detail.tag] : null
}

function withChallenge(context: Authorization, refusal: RegistryError): RegistryError {
  const { ctx, route, deps, repository } = context
  const server = { base: deps.publicBaseUrl(ctx), service: deps.service }
  const code = bearerErrorOf(context)
  // Docker shows the challenge instead of the body: it asks for blobs with HEAD.
  const error = code === undefined ? undefined : { code, description: refusal.message }
  return new RegistryError('UNAUTHORIZED', refusal.detail, {
    message: refusal.message,
    challenge: challengeFor(route, repository, server, error, ctx.headers),
    cause: refusal,
  })
}

/** RFC 6750, section 3.1: a request without credentials gets no error code. */
function bearerErrorOf({ ctx, authentication }: Authorization): BearerErrorCode | undefined {
  if (ctx.headers.authorization === undefined) return undefined
  if (authentication === undefined) return 'invalid_token'
  const { caller } = authentication
  if (caller.kind === 'anonymous') return caller.hasToken ? 'insufficient_scope' : undefined
  const isExpired = caller.kind === 'holder' && caller.expiredAt !== undefined
  return isExpired ? 'invalid_token' : 'insufficient_scope'
}
