import type { Access } from '../auth/access.ts'
import type { Repository } from '../oci/reference.ts'
import type { Route } from './route.ts'

/** Why somebody who came with something is sent back (RFC 6750, section 3.1). */
export type ChallengeError = 'invalid_token' | 'insufficient_scope'

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
 * The WWW-Authenticate header that tells clients how to come back. Under /v2/ that is the token
 * protocol (distribution, "Token Authentication"), elsewhere a password will do.
 */
export function challengeFor(
  route: Pick<Route, 'path' | 'access' | 'scope'>,
  repository: Repository | undefined,
  { base, service }: { base: string; service: string },
  error: ChallengeError | undefined,
): string {
  if (!route.path.startsWith('/v2')) return 'Basic realm="Rookery", charset="UTF-8"'
  const actions = ASKED[route.access]
  const scope =
    route.scope ??
    (repository === undefined || actions === '' ? undefined : `repository:${repository}:${actions}`)
  const parameters = [
    `realm="${base}/token"`,
    `service="${service}"`,
    ...(scope === undefined ? [] : [`scope="${scope}"`]),
    ...(error === undefined ? [] : [`error="${error}"`]),
  ]
  return `Bearer ${parameters.join(',')}`
}
