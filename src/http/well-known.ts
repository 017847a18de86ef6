import { createHash } from 'node:crypto'
import type { RegistryIssuer } from '../auth/access-tokens.ts'
import { JWKS_CACHE_SECONDS } from '../auth/lifetimes.ts'
import type { KeyRing } from '../auth/signing-keys.ts'
import type { Route, RouteContext } from './route.ts'

const JWKS_PATH = '/.well-known/jwks.json'

/** Publishes the keys that verify the registry's tokens: RFC 7517 and OpenID Connect Discovery 1.0. */
export function wellKnownRoutes(
  keys: KeyRing,
  issuer: RegistryIssuer,
  publicBaseUrl: (ctx: RouteContext) => string,
): Route[] {
  return [
    {
      method: 'GET',
      path: JWKS_PATH,
      access: 'none',
      query: 'any',
      reads: 'nothing',
      handle(ctx) {
        sendPublic(ctx, keys.publicKeySet())
        ctx.type = 'application/jwk-set+json'
      },
    },
    {
      method: 'GET',
      path: '/.well-known/openid-configuration',
      access: 'none',
      query: 'any',
      reads: 'nothing',
      handle(ctx) {
        const base = publicBaseUrl(ctx)
        sendPublic(ctx, {
          issuer: issuer.url,
          jwks_uri: `${base}${JWKS_PATH}`,
          token_endpoint: `${base}/token`,
          response_types_supported: ['none'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['ES256', 'EdDSA'],
          grant_types_supported: [
            'password',
            'refresh_token',
            'urn:ietf:params:oauth:grant-type:token-exchange',
            'urn:ietf:params:oauth:grant-type:jwt-bearer',
          ],
          token_endpoint_auth_methods_supported: ['client_secret_basic', 'none'],
        })
      },
    },
  ]
}

/** Sends public JSON that verifiers may cache. */
function sendPublic(ctx: RouteContext, value: unknown): void {
  const text = JSON.stringify(value)
  const tag = `"${createHash('sha256').update(text).digest('base64url')}"`
  ctx.set({ 'Cache-Control': `public, max-age=${JWKS_CACHE_SECONDS}`, ETag: tag })
  if (ctx.headers['if-none-match'] === tag) {
    ctx.status = 304
    return
  }
  ctx.type = 'application/json'
  ctx.body = text
}
