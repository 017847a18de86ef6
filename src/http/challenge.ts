import type { IncomingHttpHeaders } from 'node:http'
import type { Access } from '../auth/access.ts'
import { type BearerErrorCode, type Challenge, RegistryError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import { isBrowser } from './other-sites.ts'
import type { Route } from './route.ts'

/** The actions of a challenge's scope. */
const CHALLENGE_ACTIONS: Readonly<Record<Access, string>> = {
  none: '',
  publicRead: '',
  authenticated: '',
  pull: 'pull',
  // Clients look for existing blobs before they push.
  push: 'pull,push',
  delete: 'delete',
  admin: '',
  host: '',
  metrics: '',
}

/**
 * Returns the challenge of a 401: the token protocol below /v2/ (distribution, "Token Authentication"),
 * and Basic elsewhere. A browser is never asked for a password, because it would send it with the
 * requests of any page.
 */
export function challengeFor(
  route: Pick<Route, 'path' | 'access' | 'scope'>,
  repository: Repository | undefined,
  { base, service }: { base: string; service: string },
  error: { readonly code: BearerErrorCode; readonly description: string } | undefined,
  headers: IncomingHttpHeaders,
): Challenge {
  if (!route.path.startsWith('/v2') && !isBrowser(headers))
    return { scheme: 'Basic', realm: 'Rookery' }
  const actions = CHALLENGE_ACTIONS[route.access]
  const scope =
    route.scope ??
    (repository === undefined || actions === '' ? undefined : `repository:${repository}:${actions}`)
  return {
    scheme: 'Bearer',
    realm: `${base}/token`,
    service,
    scope,
    error: error?.code,
    description: error?.description,
  }
}

/**
 * Returns the error with a message that says where to log in again, if a login ended: clients store logins, and show
 * only this message. Other errors are returned as they are. `base` returns the URL by which the client reached the registry,
 * which is not known any more when its connection is gone.
 */
export function withLoginAdvice(error: unknown, base: () => string): unknown {
  if (!(error instanceof RegistryError) || error.data.loginEnded !== true) return error
  const message = `${error.message}: log in to ${new URL(base()).host} again`
  return new RegistryError(error.code, error.detail, { message, cause: error })
}
