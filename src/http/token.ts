import type { AuditLog } from '../auth/audit.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import { InvalidAssertionError } from '../auth/hosts/assertions.ts'
import { parseScopes } from '../auth/scope.ts'
import {
  type AccessTokenRequest,
  type AccessTokenResponse,
  scopeText,
  type TokenIssuer,
} from '../auth/token-issuer.ts'
import { badRequest, type ErrorCode, RegistryError } from '../oci/errors.ts'
import { withLoginAdvice } from './challenge.ts'
import { queryAll, queryOnce, type Route, type RouteContext } from './route.ts'

const FORM_BYTES_MAX = 64 * 1024
const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
/** The token types of an identity token (RFC 8693, section 3). */
const IDENTITY_TYPES: ReadonlySet<string> = new Set([
  'urn:ietf:params:oauth:token-type:id_token',
  'urn:ietf:params:oauth:token-type:jwt',
])

/** Issues tokens: distribution's token protocol by GET, and OAuth 2 by POST (RFC 6749, RFC 8693). */
export function tokenRoutes(
  issuer: TokenIssuer,
  authenticator: Authenticator,
  audit: AuditLog,
  clientBaseUrl: (ctx: RouteContext) => string,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/token',
      access: 'none',
      query: 'any',
      reads: 'rows',
      hasEffect: true,
      async handle(ctx) {
        const { address } = ctx.state
        const { authorization } = ctx.headers
        const authentication = await authenticator.authenticate(authorization, address)
        const offline = queryOnce(ctx, 'offline_token') === 'true'
        const request = { ...requestOf(ctx, queryAll(ctx, 'scope')), offline }
        sendToken(ctx, await issuer.issue(authentication, request))
      },
    },
    {
      method: 'POST',
      path: '/token',
      inReadOnlyMode: true,
      access: 'none',
      query: 'any',
      async handle(ctx) {
        try {
          sendToken(ctx, await grantToken(ctx, await readForm(ctx), issuer, authenticator))
        } catch (thrown) {
          const error = thrown instanceof InvalidAssertionError ? invalidGrant(thrown) : thrown
          auditRefusal(ctx, audit, error)
          sendOauthError(
            ctx,
            withLoginAdvice(error, () => clientBaseUrl(ctx)),
          )
        }
      },
    },
  ]
}

async function grantToken(
  ctx: RouteContext,
  form: URLSearchParams,
  issuer: TokenIssuer,
  authenticator: Authenticator,
): Promise<AccessTokenResponse> {
  const request = {
    ...requestOf(ctx, form.getAll('scope')),
    offline: form.get('access_type') === 'offline',
  }
  switch (form.get('grant_type')) {
    case 'password': {
      const user = requireField(form, 'username')
      const password = requireField(form, 'password')
      const authentication = await authenticator.authenticatePassword(
        user,
        password,
        request.address,
      )
      return issuer.issue(authentication, request)
    }
    case 'refresh_token': {
      // Clients store the refresh token of the response, so the response repeats it.
      return issuer.refresh(requireField(form, 'refresh_token'), request)
    }
    case TOKEN_EXCHANGE: {
      const token = requireField(form, 'subject_token')
      const type = requireField(form, 'subject_token_type')
      if (IDENTITY_TYPES.has(type)) return issuer.exchange(token, request)
      throw badRequest(`subject_token_type must be ${[...IDENTITY_TYPES].join(' or ')}`)
    }
    case JWT_BEARER:
      return issuer.issueToHost(requireField(form, 'assertion'), request)
    default:
      throw badRequest(
        `grant_type must be password, refresh_token, ${TOKEN_EXCHANGE} or ${JWT_BEARER}`,
      )
  }
}

function requestOf(
  ctx: RouteContext,
  scopes: readonly string[],
): Omit<AccessTokenRequest, 'offline'> {
  const { address, requestId } = ctx.state
  return { scopes: parseScopes(scopes), address, requestId }
}

async function readForm(ctx: RouteContext): Promise<URLSearchParams> {
  if (!ctx.is('application/x-www-form-urlencoded')) {
    throw badRequest('send a form: Content-Type application/x-www-form-urlencoded')
  }
  return new URLSearchParams((await ctx.state.body.read(FORM_BYTES_MAX)).toString('utf8'))
}

function requireField(form: URLSearchParams, name: string): string {
  const value = form.get(name)
  if (value) return value
  throw badRequest(`${name} is missing`)
}

function sendToken(ctx: RouteContext, minted: AccessTokenResponse): void {
  const { token, access, refreshToken } = minted
  ctx.set('Cache-Control', 'no-store')
  ctx.body = {
    // Clients read either `token` or `access_token`.
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

/** A refused assertion of a host: RFC 6749, section 5.2, has 400 for it. */
function invalidGrant(cause: InvalidAssertionError): RegistryError {
  return badRequest(`assertion: ${cause.message}`, { field: 'assertion', cause })
}

function isInvalidGrant(error: unknown): boolean {
  return error instanceof RegistryError && error.cause instanceof InvalidAssertionError
}

/** Audits a refusal of credentials in the form. The authorization step does not see them. */
function auditRefusal(ctx: RouteContext, audit: AuditLog, error: unknown): void {
  if (!(error instanceof RegistryError)) return
  if (error.code !== 'UNAUTHORIZED' && !isInvalidGrant(error)) return
  const { address, requestId } = ctx.state
  const detail = `POST /token: ${error.message}`
  audit.enqueue({ action: 'authenticate', decision: 'refused', address, requestId, detail })
}

const OAUTH_ERRORS: Partial<Record<ErrorCode, string>> = {
  UNAUTHORIZED: 'invalid_grant',
  REQUEST_INVALID: 'invalid_request',
  PAYLOAD_TOO_LARGE: 'invalid_request',
}

/** Sends the error of RFC 6749, section 5.2, and that of the distribution spec: clients read either. */
function sendOauthError(ctx: RouteContext, error: unknown): void {
  const mapped = error instanceof RegistryError ? OAUTH_ERRORS[error.code] : undefined
  const code = isInvalidGrant(error) ? 'invalid_grant' : mapped
  if (!(error instanceof RegistryError) || code === undefined) throw error
  ctx.status = error.status
  ctx.set('Cache-Control', 'no-store')
  ctx.body = { error: code, error_description: error.message, ...error.toJSON() }
}
