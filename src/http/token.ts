import type { AuditLog } from '../auth/audit.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { parseScopes } from '../auth/scope.ts'
import {
  type AccessTokenRequest,
  type AccessTokenResponse,
  scopeText,
  type TokenIssuer,
} from '../auth/token-issuer.ts'
import { badRequest, type ErrorCode, RegistryError } from '../oci/errors.ts'
import { queryAll, queryOnce, type Route, type RouteContext } from './route.ts'

const FORM_BYTES_MAX = 64 * 1024
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
/** What an identity token may be called (RFC 8693, section 3). */
const IDENTITY_TYPES: ReadonlySet<string> = new Set([
  'urn:ietf:params:oauth:token-type:id_token',
  'urn:ietf:params:oauth:token-type:jwt',
])

/** Where tokens come from: distribution's token protocol by GET, and OAuth 2 by POST (RFC 6749, RFC 8693). */
export function tokenRoutes(
  issuer: TokenIssuer,
  authenticator: Authenticator,
  audit: AuditLog,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/token',
      access: 'none',
      async handle(ctx) {
        const { address } = ctx.state
        const held = await authenticator.authenticate(ctx.headers.authorization, address)
        const offline = queryOnce(ctx, 'offline_token') === 'true'
        answer(ctx, await issuer.issue(held, { ...askOf(ctx, queryAll(ctx, 'scope')), offline }))
      },
    },
    {
      method: 'POST',
      path: '/token',
      access: 'none',
      async handle(ctx) {
        try {
          answer(ctx, await granted(ctx, await readForm(ctx), issuer, authenticator))
        } catch (error) {
          noteRefusal(ctx, audit, error)
          answerOauth(ctx, error)
        }
      },
    },
  ]
}

async function granted(
  ctx: RouteContext,
  form: URLSearchParams,
  issuer: TokenIssuer,
  authenticator: Authenticator,
): Promise<AccessTokenResponse> {
  const ask = {
    ...askOf(ctx, form.getAll('scope')),
    offline: form.get('access_type') === 'offline',
  }
  switch (form.get('grant_type')) {
    case 'password': {
      const user = needed(form, 'username')
      const password = needed(form, 'password')
      const held = await authenticator.authenticatePassword(user, password, ask.address)
      return issuer.issue(held, ask)
    }
    case 'refresh_token': {
      const token = needed(form, 'refresh_token')
      const renewed = await issuer.refresh(token, ask)
      // Clients keep what they are answered, so they get again what they have.
      return { ...renewed, refreshToken: token }
    }
    case TOKEN_EXCHANGE: {
      const token = needed(form, 'subject_token')
      const type = needed(form, 'subject_token_type')
      if (IDENTITY_TYPES.has(type)) return issuer.exchange(token, ask)
      throw badRequest(`subject_token_type is ${[...IDENTITY_TYPES].join(' or ')}`)
    }
    default:
      throw badRequest(`grant_type is password, refresh_token or ${TOKEN_EXCHANGE}`)
  }
}

function askOf(ctx: RouteContext, scopes: readonly string[]): Omit<AccessTokenRequest, 'offline'> {
  const { address, requestId } = ctx.state
  return { scopes: parseScopes(scopes), address, requestId }
}

async function readForm(ctx: RouteContext): Promise<URLSearchParams> {
  if (!ctx.is('application/x-www-form-urlencoded')) {
    throw badRequest('send a form: Content-Type application/x-www-form-urlencoded')
  }
  return new URLSearchParams((await ctx.state.body.read(FORM_BYTES_MAX)).toString('utf8'))
}

function needed(form: URLSearchParams, name: string): string {
  const value = form.get(name)
  if (value) return value
  throw badRequest(`${name} is missing`)
}

function answer(ctx: RouteContext, minted: AccessTokenResponse): void {
  const { token, access, refreshToken } = minted
  ctx.set('Cache-Control', 'no-store')
  ctx.body = {
    // Clients read one or the other.
    token,
    access_token: token,
    token_type: 'Bearer',
    expires_in: minted.expiresSeconds,
    issued_at: minted.issuedAt.toISOString(),
    scope: scopeText(access),
    issued_token_type: ACCESS_TOKEN,
    ...(refreshToken === undefined ? {} : { refresh_token: refreshToken }),
  }
}

/** What came in the form, and not in a header, is seen only here. */
function noteRefusal(ctx: RouteContext, audit: AuditLog, error: unknown): void {
  if (!(error instanceof RegistryError) || error.code !== 'UNAUTHORIZED') return
  const { address, requestId } = ctx.state
  const detail = `POST /token: ${error.message}`
  audit.enqueue({ action: 'authenticate', decision: 'refused', address, requestId, detail })
}

const OAUTH_ERRORS: Partial<Record<ErrorCode, string>> = {
  UNAUTHORIZED: 'invalid_grant',
  REQUEST_INVALID: 'invalid_request',
  PAYLOAD_TOO_LARGE: 'invalid_request',
}

/** RFC 6749, section 5.2, and the distribution spec's errors in the same answer: clients read either. */
function answerOauth(ctx: RouteContext, error: unknown): void {
  const code = error instanceof RegistryError ? OAUTH_ERRORS[error.code] : undefined
  if (!(error instanceof RegistryError) || code === undefined) throw error
  ctx.status = error.status
  ctx.set('Cache-Control', 'no-store')
  ctx.body = { error: code, error_description: error.message, ...error.toJSON() }
}
