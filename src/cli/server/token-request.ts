import { ACTIONS } from '../../auth/access.ts'
import type { TokenClaims } from '../../auth/access-tokens.ts'
import { originOf, parseGrant } from '../../auth/credentials.ts'
import type { AccessEntry } from '../../auth/scope.ts'
import type { CredentialRow } from '../../db/auth/credentials.ts'
import { parseAddress, parseNetworks } from '../../networks/networks.ts'
import { type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import { CommandError, UsageError } from '../errors.ts'
import { ACTIONS_DEFAULT } from './right-options.ts'

/** The requested rights of a token; undefined where an option was not given. */
export type TokenRequest = {
  readonly admin: boolean
  readonly repositories: readonly string[] | undefined
  readonly actions: readonly string[] | undefined
  readonly tags: readonly string[] | undefined
  readonly networks: readonly string[] | undefined
}

const ADMIN: AccessEntry = { type: 'registry', name: 'admin', actions: ['*'] }

/** Returns the claims of a token that the operator requests: all of them. Throws UsageError and REQUEST_INVALID. */
export function grantedByOperator(request: TokenRequest, subject: string): TokenClaims {
  if (request.admin) return { subject, access: [ADMIN], networks: request.networks }
  const { repositories, actions = ACTIONS_DEFAULT, tags } = request
  if (repositories === undefined) {
    throw new UsageError("--repository or --admin is required, such as --repository 'builds/**'")
  }
  return { subject, access: accessOf({ repositories, actions, tags }), networks: request.networks }
}

/**
 * Returns the claims of a token issued from a credential: its rights, or the requested part of them.
 * Throws CommandError for rights that it does not have, and for a revoked or expired credential.
 */
export function downscope(row: CredentialRow, request: TokenRequest): TokenClaims {
  assertValid(row)
  const bounds = {
    subject: row.name,
    origin: originOf(row),
    networks: request.networks ?? row.networks ?? undefined,
  }
  if (row.kind === 'admin') {
    if (!request.admin && request.repositories === undefined) {
      throw new UsageError(
        `${row.name} is an administrator: give --repository, or --admin for all rights`,
      )
    }
    assertWithin(row.name, exceedingNetworks(row, request))
    return { ...grantedByOperator(request, row.name), ...bounds }
  }
  if (row.kind === 'metrics') {
    throw new CommandError(`${row.name} may only read the metrics: use its password for that`)
  }
  assertWithin(row.name, [
    ...(request.admin ? ['--admin'] : []),
    ...exceeding('repository', request.repositories, row.repositories),
    ...(request.actions ?? [])
      .filter((action) => !row.actions.includes(action))
      .map((action) => `action ${action}`),
    ...(row.tags === null ? [] : exceeding('tag', request.tags, row.tags)),
    ...exceedingNetworks(row, request),
  ])
  const actions =
    request.actions ?? row.actions.filter((action) => ACTIONS_DEFAULT.includes(action))
  if (actions.length === 0) {
    throw new CommandError(`${row.name} may neither pull nor push: give --action`)
  }
  const repositories = request.repositories ?? row.repositories
  const tags = request.tags ?? row.tags ?? undefined
  return { ...bounds, access: accessOf({ repositories, actions, tags }) }
}

// The token travels in a header, in Basic authorization a third longer; proxies end headers at 8 KiB.
const CLAIMS_LENGTH_MAX = 4096

/** Throws CommandError for claims that make a token too long for a header. */
export function assertShort({ access, networks }: TokenClaims): void {
  const length = JSON.stringify([access, networks]).length
  if (length > CLAIMS_LENGTH_MAX) {
    throw new CommandError(
      'the token would be too long for a header: give fewer patterns, or create a credential',
    )
  }
}

type RequestedRights = {
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  readonly tags: readonly string[] | undefined
}

function accessOf(requested: RequestedRights): AccessEntry[] {
  const { repositories, actions, tags } = parseGrant(requested)
  return [...new Set(repositories)].map((name) => ({
    type: 'repository',
    name,
    actions: ACTIONS.filter((action) => actions.includes(action)),
    ...(tags === null ? {} : { tags }),
  }))
}

function assertValid({ name, revokedAt, expiresAt }: CredentialRow): void {
  if (revokedAt !== null) throw new CommandError(`the credential ${name} was revoked`)
  if (expiresAt !== null && expiresAt.getTime() <= Date.now()) {
    throw new CommandError(`the credential ${name} has expired`)
  }
}

function assertWithin(name: string, exceeding: readonly string[]): void {
  if (exceeding.length > 0) {
    throw new CommandError(`the credential ${name} does not have: ${exceeding.join(', ')}`)
  }
}

/** A pattern must be one of the credential's patterns: containment of patterns is not computed. */
function exceeding(
  label: string,
  requested: readonly string[] | undefined,
  held: readonly string[],
): string[] {
  return (requested ?? [])
    .filter((text) => !held.includes(text))
    .filter((text) => text.includes('*') || !matchesAnyGlob(held as Glob[], text))
    .map((text) => `${label} ${text}`)
}

function exceedingNetworks({ networks }: CredentialRow, request: TokenRequest): string[] {
  const within = networks === null ? undefined : parseNetworks(networks)
  if (networks === null || within === undefined) return []
  return (request.networks ?? [])
    .filter((text) => !networks.includes(text))
    .filter((text) => parseAddress(text) === undefined || !within.has(text))
    .map((text) => `network ${text}`)
}
