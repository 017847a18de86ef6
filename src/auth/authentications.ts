import type { CredentialOfSecret } from '../db/auth/credentials.ts'
import { type NetworkList, NO_NETWORKS, parseNetworks } from '../networks/networks.ts'
import { loginEnded } from '../oci/errors.ts'
import { ANONYMOUS, type Caller, type CallerIdentity, METRICS_GRANT } from './access.ts'
import type { VerifiedToken } from './access-tokens.ts'
import { ADMIN_USER, grantOf, originOf } from './credentials.ts'
import { callerOfHost, grantVersionSubject, hostOfToken, hostOrigin } from './hosts/host-access.ts'
import { grantsOf } from './scope.ts'

/** An authenticated caller, with the limits of everything that is derived from it. */
export type Authentication = {
  readonly caller: Caller
  /** The credential, if the caller presented one and not a token. */
  readonly credential: CredentialOfSecret | undefined
  /** The token, if the caller presented one. */
  readonly token: VerifiedToken | undefined
  /** The networks from which it may be used. Undefined: from anywhere. */
  readonly networks: readonly string[] | undefined
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

/** An authentication and the data for the checks that each request repeats. */
export type CachedAuthentication = Authentication & {
  /** The subjects of the revocation list that must not be revoked. */
  readonly subjects: readonly string[]
  /** `networks`, parsed. */
  readonly networkList: NetworkList | undefined
  /** The key that signed the token, if it was a token. */
  readonly kid: string | undefined
}

type Scheme = CallerIdentity['scheme']

/** The authentication of a caller without credentials. */
export const ANONYMOUS_AUTHENTICATION: CachedAuthentication = {
  caller: ANONYMOUS,
  credential: undefined,
  token: undefined,
  subjects: [],
  networks: undefined,
  networkList: undefined,
  kid: undefined,
  expiresAt: Number.POSITIVE_INFINITY,
}

/** Returns the authentication of the password that the environment sets for the user `admin`. */
export function authenticationOfPassword(scheme: Scheme): CachedAuthentication {
  return { ...ANONYMOUS_AUTHENTICATION, caller: adminCaller(ADMIN_USER, undefined, scheme) }
}

function adminCaller(
  actor: string,
  origin: string | undefined,
  scheme: Scheme,
  token?: Pick<VerifiedToken, 'tokenId' | 'kid'>,
): Caller {
  return { kind: 'admin', actor, origin, tokenId: token?.tokenId, keyId: token?.kid, scheme }
}

/** Unreadable networks match no address. */
function networkListOf(networks: readonly string[]): NetworkList {
  return parseNetworks(networks) ?? NO_NETWORKS
}

/**
 * Returns the authentication of a credential. `secretSubjects` are the subjects of the revocation list that end the presented
 * secret alone. Throws UNAUTHORIZED for the secret of a host that was revoked.
 */
export function authenticationOfCredential(
  row: CredentialOfSecret,
  secretSubjects: readonly string[],
  scheme: Scheme,
): CachedAuthentication {
  if (row.kind === 'host') return authenticationOfHost(row, secretSubjects, scheme)
  const origin = originOf(row)
  const caller: Caller =
    row.kind === 'admin'
      ? adminCaller(row.name, origin, scheme)
      : {
          kind: 'holder',
          actor: row.name,
          origin,
          tokenId: undefined,
          keyId: undefined,
          scheme,
          grants: [row.kind === 'metrics' ? METRICS_GRANT : grantOf(row)],
          expiredAt: undefined,
        }
  return {
    caller,
    credential: row,
    token: undefined,
    subjects: [origin, ...secretSubjects],
    networks: row.networks ?? undefined,
    networkList: row.networks === null ? undefined : networkListOf(row.networks),
    kid: undefined,
    expiresAt: Math.min(
      row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
      row.secretUntil?.getTime() ?? Number.POSITIVE_INFINITY,
    ),
  }
}

function authenticationOfHost(
  row: CredentialOfSecret,
  secretSubjects: readonly string[],
  scheme: Scheme,
): CachedAuthentication {
  const { host } = row
  if (host === null) throw loginEnded('the host was revoked')
  return {
    caller: callerOfHost(host, scheme),
    credential: row,
    token: undefined,
    subjects: [hostOrigin(host.id), grantVersionSubject(host), ...secretSubjects],
    networks: host.networks ?? undefined,
    networkList: host.networks === null ? undefined : networkListOf(host.networks),
    kid: undefined,
    expiresAt: Number.POSITIVE_INFINITY,
  }
}

/** Returns the authentication of a token, also of an expired one. */
export function authenticationOfToken(
  token: VerifiedToken,
  scheme: Scheme = 'bearer',
): CachedAuthentication {
  const { subject, origin, tokenId, access, networks, expiresAt } = token
  const isAdmin = access.some(({ type, name }) => type === 'registry' && name === 'admin')
  const host = hostOfToken(token)
  const caller: Caller =
    subject === ''
      ? { kind: 'anonymous', hasToken: true }
      : isAdmin
        ? adminCaller(subject, origin, scheme, token)
        : {
            kind: 'holder',
            actor: subject,
            origin,
            tokenId,
            keyId: token.kid,
            scheme,
            grants: grantsOf(access),
            expiredAt: undefined,
            ...(host === undefined ? {} : { host }),
          }
  const version = host === undefined ? [] : [grantVersionSubject(host)]
  return {
    caller,
    credential: undefined,
    token,
    subjects: [`token:${tokenId}`, ...(origin === undefined ? [] : [origin]), ...version],
    networks,
    networkList: networks === undefined ? undefined : networkListOf(networks),
    kid: token.kid,
    expiresAt: expiresAt.getTime(),
  }
}
