import {
  ANONYMOUS,
  allowsTag,
  type Caller,
  type Decision,
  decide,
  hasAnyAccess,
} from '../auth/access.ts'
import { type AuditLog, auditIdentity } from '../auth/audit.ts'
import type { Authentication, Authenticator } from '../auth/authenticator.ts'
import { type BearerErrorCode, denied, RegistryError, unauthorized } from '../oci/errors.ts'
import { parseRepository, type Repository } from '../oci/reference.ts'
import { challengeFor } from './challenge.ts'
import type { Matched } from './matcher.ts'
import { RequestBody } from './request-body.ts'
import type { Route, RouteContext } from './route.ts'

/** What authorization needs to know. */
export type AuthorizationDeps = {
  readonly authenticator: Authenticator
  readonly audit: AuditLog
  /** The audience of tokens. */
  readonly service: string
  /** How the client reached the registry: where it gets tokens. */
  publicBaseUrl(ctx: RouteContext): string
}

/** One request, before anything is known of it. */
export type RequestInfo = { readonly requestId: string; readonly address: string }

/**
 * The one place where it is decided who may do what: finds out who asks, lets the row's handler run
 * or refuses, and tells a stranger who saw nothing how to come back as somebody.
 */
export async function runAuthorized(
  ctx: RouteContext,
  { route, params }: Matched,
  keeper: AuthorizationDeps,
  visit: RequestInfo,
): Promise<void> {
  const { authorization } = ctx.headers
  let held: Authentication | undefined
  let repository: Repository | undefined
  let publicOnly = false
  try {
    // First, so that a challenge can tell what to ask for.
    repository = params.repository === undefined ? undefined : parseRepository(params.repository)
    if (route.access !== 'none') {
      held = await keeper.authenticator.authenticate(authorization, visit.address)
    }
    const caller = held?.caller ?? ANONYMOUS
    requireUnexpired(route, caller)
    const decision = decide(route.access, caller, repository)
    requireAllowed(decision, route, caller)
    publicOnly = decision === 'public-only'
    const body = new RequestBody(ctx.req, ctx.res)
    const networks = held?.networks
    ctx.state = { ...visit, caller, networks, params, repository, publicOnly, body }
    requireTags(ctx, route, caller, repository)
    await route.handle(ctx)
  } catch (error) {
    const refusal = publicOnly ? maskPrivate(error, held?.caller, repository) : error
    if (!(refusal instanceof RegistryError)) throw refusal
    const { code } = refusal
    // Whoever has nothing is asked to come back as somebody, which is no refusal.
    const isSomebody = authorization !== undefined && held?.caller.kind !== 'anonymous'
    if (isSomebody && (code === 'UNAUTHORIZED' || code === 'DENIED')) {
      noteRefusal(keeper.audit, route, visit, held?.caller, repository, refusal)
    }
    throw code === 'UNAUTHORIZED'
      ? challenged(ctx, route, keeper, repository, refusal, errorOf(authorization, held))
      : refusal
  }
}

function requireUnexpired(route: Route, caller: Caller): void {
  if (caller.kind !== 'holder' || caller.expiredAt === undefined || route.allowsExpiredToken) return
  throw unauthorized(`the token expired at ${caller.expiredAt.toISOString()}`)
}

function requireAllowed(decision: Decision, route: Route, caller: Caller): void {
  if (decision === 'authenticate') throw new RegistryError('UNAUTHORIZED')
  if (decision !== 'refuse') return
  const isToken = caller.kind === 'holder' && caller.scheme === 'bearer'
  throw isToken && route.path.startsWith('/v2') ? insufficientScope() : new RegistryError('DENIED')
}

/** Every way of setting or removing a tag names its tags in the row, so that none is forgotten. */
function requireTags(
  ctx: RouteContext,
  route: Route,
  caller: Caller,
  repository: Repository | undefined,
): void {
  const { access } = route
  if (route.tags === undefined || repository === undefined) return
  if (access === 'none' || access === 'look' || access === 'manage') return
  const tag = route.tags(ctx).find((one) => !allowsTag(caller, access, repository, one))
  if (tag !== undefined) {
    throw denied(`this credential may not ${access} tag ${tag}`, { tag })
  }
}

/** A private repository and none at all are the same to whoever may not see it. */
function maskPrivate(
  error: unknown,
  caller: Caller | undefined,
  repository: Repository | undefined,
): unknown {
  if (!(error instanceof RegistryError) || error.code !== 'NAME_UNKNOWN') return error
  // To whoever may push there, the name is no secret: it simply cannot be pulled.
  if (caller === undefined || repository === undefined || hasAnyAccess(caller, repository))
    return error
  if (caller.kind === 'anonymous') {
    return new RegistryError('UNAUTHORIZED', undefined, { cause: error })
  }
  return caller.scheme === 'bearer' ? insufficientScope(error) : error
}

function insufficientScope(cause?: unknown): RegistryError {
  return unauthorized('the token does not cover this: ask for one that does', cause)
}

/** Who came with nothing hears of no error. */
function errorOf(
  authorization: string | undefined,
  held: Authentication | undefined,
): BearerErrorCode | undefined {
  if (authorization === undefined) return undefined
  if (held === undefined) return 'invalid_token'
  const { caller } = held
  if (caller.kind === 'anonymous') return caller.hasToken ? 'insufficient_scope' : undefined
  const isOver = caller.kind === 'holder' && caller.expiredAt !== undefined
  return isOver ? 'invalid_token' : 'insufficient_scope'
}

function challenged(
  ctx: RouteContext,
  route: Route,
  keeper: AuthorizationDeps,
  repository: Repository | undefined,
  refusal: RegistryError,
  error: BearerErrorCode | undefined,
): RegistryError {
  const place = { base: keeper.publicBaseUrl(ctx), service: keeper.service }
  return new RegistryError('UNAUTHORIZED', refusal.detail, {
    message: refusal.message,
    challenge: challengeFor(route, repository, place, error),
    cause: refusal,
  })
}

function noteRefusal(
  audit: AuditLog,
  route: Route,
  visit: RequestInfo,
  caller: Caller | undefined,
  repository: Repository | undefined,
  refusal: RegistryError,
): void {
  audit.enqueue({
    ...(caller === undefined ? {} : auditIdentity(caller)),
    action: caller === undefined ? 'authenticate' : route.access,
    decision: 'refused',
    ...visit,
    repository: repository ?? null,
    tags: tagOf(refusal.detail),
    detail: `${route.method} ${route.path}: ${refusal.message}`,
  })
}

/** The tag that a refusal is about, if it is about one. */
function tagOf(detail: unknown): [string] | null {
  const named = typeof detail === 'object' && detail !== null && 'tag' in detail
  return named && typeof detail.tag === 'string' ? [detail.tag] : null
}
