import type { Glob } from '../../oci/glob.ts'
import type { Caller, CallerIdentity, Grant, HostCaller } from '../access.ts'
import type { AccessEntry } from '../scope.ts'

/** The grant of a host: what it may pull, and from where. */
export type HostGrant = {
  readonly id: number
  readonly name: string
  readonly repositories: readonly string[]
  /** Null: from anywhere. */
  readonly networks: readonly string[] | null
  readonly grantVersion: number
}

const ORIGIN = /^host:([1-9]\d{0,14})$/

/** Returns the `origin` of tokens of a host. Its revocation ends them all. */
export function hostOrigin(id: number): string {
  return `host:${id}`
}

/** Returns the actor of a host in events and the audit log. No credential has a name with a colon. */
export function hostActor(name: string): string {
  return `host:${name}`
}

/** Returns the subject of the revocation list that ends the tokens of one version of a host's grant. */
export function grantVersionSubject({
  id,
  grantVersion,
}: Pick<HostCaller, 'id' | 'grantVersion'>): string {
  return `host-grant:${id}:${grantVersion}`
}

/** Returns the caller that a host is, by its key or its secret. It may pull, and report about itself. */
export function callerOfHost(host: HostGrant, scheme: CallerIdentity['scheme']): Caller {
  const { id, name, grantVersion, repositories } = host
  const grant: Grant = { repositories: repositories as Glob[], actions: ['pull'], tags: null }
  return {
    kind: 'holder',
    actor: hostActor(name),
    origin: hostOrigin(id),
    tokenId: undefined,
    keyId: undefined,
    scheme,
    grants: [grant],
    expiredAt: undefined,
    host: { id, name, grantVersion, mayReport: true },
  }
}

/** Returns the access of a token for a host that requests no scope: everything that it may do. */
export function entriesOfHost(
  { name, grantVersion, mayReport }: HostCaller,
  grants: readonly Grant[],
): AccessEntry[] {
  const pulls = grants.flatMap(({ repositories, actions }) =>
    repositories.map((glob): AccessEntry => ({ type: 'repository', name: glob, actions })),
  )
  // First: a token that is too long leaves out its last entries.
  return [{ type: 'host', name, actions: mayReport ? ['report'] : [], grantVersion }, ...pulls]
}

/** Returns the host that a token was issued to. */
export function hostOfToken(token: {
  readonly origin?: string | undefined
  readonly access: readonly AccessEntry[]
}): HostCaller | undefined {
  const id = ORIGIN.exec(token.origin ?? '')?.[1]
  const entry = token.access.find(({ type }) => type === 'host')
  if (id === undefined || entry?.grantVersion === undefined) return undefined
  const { name, grantVersion, actions } = entry
  return { id: Number(id), name, grantVersion, mayReport: actions.includes('report') }
}
