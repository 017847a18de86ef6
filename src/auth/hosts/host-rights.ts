import type { Actor } from '../../db/auth/audit.ts'
import { isNetworkWithin, parseNetwork } from '../../networks/networks.ts'
import { badRequest, denied } from '../../oci/errors.ts'
import { coversGlob, type Glob, parseRepositoryGlob } from '../../oci/glob.ts'
import type { Grant } from '../access.ts'
import { assertName, assertNetworks, PATTERNS_LENGTH_MAX, PATTERNS_MAX } from '../credentials.ts'

/** The caller of an operation on hosts, and its rights. */
export type HostRequester = {
  readonly actor: Actor
  /** Null: an administrator. */
  readonly grants: readonly Grant[] | null
  /** The networks that restrict the requester. Undefined: none. */
  readonly networks: readonly string[] | undefined
}

/** A grant for a host, before it is checked. */
export type HostGrantRequest = {
  readonly repositories: readonly string[]
  readonly networks: readonly string[] | undefined
  readonly labels: Readonly<Record<string, string>> | undefined
}

/** A checked grant. */
export type CheckedHostGrant = {
  readonly repositories: readonly Glob[]
  readonly networks: readonly string[] | null
  readonly labels: Readonly<Record<string, string>>
}

const HOST_NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/
const LABELS_MAX = 32
const LABEL_NAME = /^[a-z0-9](?:[a-z0-9._/-]{0,61}[a-z0-9])?$/
const LABEL_VALUE = /^[A-Za-z0-9](?:[A-Za-z0-9._:/-]{0,61}[A-Za-z0-9])?$/
const EVERYTHING = parseRepositoryGlob('**')
/** The path of the route that enrols hosts. */
const RESERVED = 'enrol'

/** False for a text that no host has as its name. */
export function isHostName(text: string): boolean {
  return HOST_NAME.test(text)
}

/** Returns the source of a requester's rights. A token that the operator issued has none, and is the source itself. */
export function ownerOriginOf({
  origin,
  tokenId,
}: Pick<Actor, 'origin' | 'tokenId'>): string | null {
  return origin ?? (tokenId === null ? null : `token:${tokenId}`)
}

/** Throws REQUEST_INVALID for a name that a host cannot have. */
export function assertHostName(name: string): void {
  assertName(name)
  if (name === RESERVED) throw badRequest(`a host cannot have the name ${RESERVED}`)
}

/**
 * True when the requester may see, change and revoke a host with these repositories: an administrator, or a holder of
 * `admin` on all of them.
 */
export function mayManageHost(
  grants: readonly Grant[] | null,
  repositories: readonly string[],
): boolean {
  if (grants === null) return true
  if (repositories.length === 0) return grants.some(({ actions }) => actions.includes('admin'))
  return repositories.every((glob) => isCovered(grants, 'admin', glob as Glob))
}

/**
 * Returns the patterns of the repositories of which the requester may manage hosts. Undefined: all of them. Which hosts these
 * are, `mayManageHost` decides.
 */
export function managedRepositories(grants: readonly Grant[] | null): Glob[] | undefined {
  if (grants === null || isCovered(grants, 'admin', EVERYTHING)) return undefined
  const managed = grants.filter(({ actions }) => actions.includes('admin'))
  return managed.flatMap(({ repositories }) => repositories)
}

/**
 * Checks what a host may do. It never may do more than the requester: who makes it needs `admin` and `pull` on all its
 * repositories, and its networks are within those of the requester. Throws REQUEST_INVALID and DENIED.
 */
export function checkHostGrant(
  request: HostGrantRequest,
  { grants, networks: own }: HostRequester,
): CheckedHostGrant {
  const repositories = parseRepositories(request.repositories)
  if (grants !== null) assertCovered(grants, repositories)
  assertNetworks(request.networks)
  const networks = request.networks ?? own ?? null
  if (own !== undefined && networks !== null) assertWithin(networks, own)
  const labels = request.labels ?? {}
  assertLabels(labels)
  return { repositories, networks, labels }
}

/** Throws REQUEST_INVALID unless the labels are few, short and of simple characters. */
export function assertLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels)
  if (entries.length > LABELS_MAX) throw badRequest(`a host has at most ${LABELS_MAX} labels`)
  for (const [name, value] of entries) {
    if (!LABEL_NAME.test(name)) {
      throw badRequest(
        'the name of a label has lower-case letters and digits, with . _ / - between them, at most 63',
        { field: 'labels' },
      )
    }
    if (!LABEL_VALUE.test(value)) {
      throw badRequest(
        `the value of label ${name} must have letters and digits, with . _ : / - between them, at most 63`,
        { field: 'labels' },
      )
    }
  }
}

function parseRepositories(texts: readonly string[]): Glob[] {
  const length = texts.join().length
  if (texts.length === 0 || texts.length > PATTERNS_MAX || length > PATTERNS_LENGTH_MAX) {
    throw badRequest(
      `repositories must have 1 to ${PATTERNS_MAX} patterns of the repositories that the host may follow, with at most ${PATTERNS_LENGTH_MAX} characters in total`,
      { field: 'repositories' },
    )
  }
  return texts.map(parseRepositoryGlob)
}

function assertCovered(grants: readonly Grant[], repositories: readonly Glob[]): void {
  for (const action of ['admin', 'pull'] as const) {
    const glob = repositories.find((one) => !isCovered(grants, action, one))
    if (glob === undefined) continue
    throw denied(
      `this credential may not ${action} all of ${glob}: who makes a host needs admin and pull on all of its repositories`,
      { field: 'repositories', value: glob },
    )
  }
}

function isCovered(grants: readonly Grant[], action: 'admin' | 'pull', glob: Glob): boolean {
  return grants.some(
    ({ actions, repositories }) =>
      actions.includes(action) && repositories.some((one) => coversGlob(one, glob)),
  )
}

function assertWithin(networks: readonly string[], own: readonly string[]): void {
  const outer = own.map(parseNetwork).filter((network) => network !== undefined)
  const outside = networks.find((text) => {
    const inner = parseNetwork(text)
    return inner === undefined || !outer.some((network) => isNetworkWithin(inner, network))
  })
  if (outside === undefined) return
  throw denied(
    `this credential is only for ${own.slice(0, 3).join(', ')}, so its hosts must be in these networks, too, and ${outside} is not`,
    { field: 'networks', value: outside },
  )
}
