import type { Access } from '../auth/access.ts'
import type { BearerErrorCode, Challenge } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import type { Route } from './route.ts'

const ASKED: Readonly<Record<Access, string>> = {
  none: '',
  look: '',
  manage: '',
  pull: 'pull',
  // Whoever pushes looks first what is there.
  push: 'pull,push',
  delete: 'delete',
  admin: '',
}

/**
 * The challenge of a 401: the token protocol below /v2/ (distribution, "Token Authentication"), and a
 * password elsewhere.
 */
export function challengeFor(
  route: Pick<Route, 'path' | 'access' | 'scope'>,
  repository: Repository | undefined,
  { base, service }: { base: string; service: string },
  error: BearerErrorCode | undefined,
): Challenge {
  if (!route.path.startsWith('/v2')) return { scheme: 'Basic', realm: 'Rookery' }
  const actions = ASKED[route.access]
  const scope =
    route.scope ??
    (repository === undefined || actions === '' ? undefined : `repository:${repository}:${actions}`)
  return { scheme: 'Bearer', realm: `${base}/token`, service, scope, error }
}
