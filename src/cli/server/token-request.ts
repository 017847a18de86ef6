import { ACTIONS } from '../../auth/access.ts'
import type { TokenClaims } from '../../auth/access-tokens.ts'
import { originOf, parseGrant } from '../../auth/credentials.ts'
import type { AccessEntry } from '../../auth/scope.ts'
import type { CredentialRow } from '../../db/auth/credentials.ts'
import { parseAddress, parseNetworks } from '../../networks/networks.ts'
import { type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import { CommandError, UsageError } from '../command.ts'
import { ACTIONS_DEFAULT } from './operator.ts'

/** What a token is to be good for; undefined where nothing was said. */
export type TokenRequest = {
  readonly admin: boolean
  readonly repositories: readonly string[] | undefined
  readonly actions: readonly string[] | undefined
  readonly tags: readonly string[] | undefined
  readonly networks: readonly string[] | undefined
}

const ADMIN: AccessEntry = { type: 'registry', name: 'admin', actions: ['*'] }

/** On the operator's own authority: whatever is wished. Throws UsageError and REQUEST_INVALID. */
export function grantedByOperator(wish: TokenRequest, subject: string): TokenClaims {
  if (wish.admin) return { subject, access: [ADMIN], networks: wish.networks }
  const { repositories, actions = ACTIONS_DEFAULT, tags } = wish
  if (repositories === undefined) {
    throw new UsageError("--repository must say where it counts, such as 'builds/**'")
  }
  return { subject, access: accessOf({ repositories, actions, tags }), networks: wish.networks }
}

/**
 * Out of a credential: what it has, or the part of it that is wished. Throws CommandError for more,
 * and for a credential that is over.
 */
export function downscope(row: CredentialRow, wish: TokenRequest): TokenClaims {
  demandValid(row)
  const bounds = {
    subject: row.name,
    origin: originOf(row),
    networks: wish.networks ?? row.networks ?? undefined,
  }
  if (row.kind === 'admin') {
    if (!wish.admin && wish.repositories === undefined) {
      throw new UsageError(`${row.name} may do everything: say --repository, or --admin for all`)
    }
    demandWithin(row.name, exceedingNetworks(row, wish))
    return { ...grantedByOperator(wish, row.name), ...bounds }
  }
  demandWithin(row.name, [
    ...(wish.admin ? ['--admin'] : []),
    ...exceeding('repository', wish.repositories, row.repositories),
    ...(wish.actions ?? [])
      .filter((action) => !row.actions.includes(action))
      .map((action) => `action ${action}`),
    ...(row.tags === null ? [] : exceeding('tag', wish.tags, row.tags)),
    ...exceedingNetworks(row, wish),
  ])
  const actions = wish.actions ?? row.actions.filter((action) => ACTIONS_DEFAULT.includes(action))
  if (actions.length === 0) {
    throw new CommandError(`${row.name} may neither pull nor push: say --action`)
  }
  const repositories = wish.repositories ?? row.repositories
  const tags = wish.tags ?? row.tags ?? undefined
  return { ...bounds, access: accessOf({ repositories, actions, tags }) }
}

// The token travels in a header, in Basic authorization a third longer; proxies end headers at 8 KiB.
const CLAIMS_LENGTH_MAX = 4096

/** Throws CommandError for what makes a token too long for the way. */
export function demandShort({ access, networks }: TokenClaims): void {
  const length = JSON.stringify([access, networks]).length
  if (length > CLAIMS_LENGTH_MAX) {
    throw new CommandError(
      `such a token would be too long for a header: fewer patterns, or a credential instead`,
    )
  }
}

type Wished = {
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  readonly tags: readonly string[] | undefined
}

function accessOf(wished: Wished): AccessEntry[] {
  const { repositories, actions, tags } = parseGrant(wished)
  return [...new Set(repositories)].map((name) => ({
    type: 'repository',
    name,
    actions: ACTIONS.filter((action) => actions.includes(action)),
    ...(tags === null ? {} : { tags }),
  }))
}

function demandValid({ name, revokedAt, expiresAt }: CredentialRow): void {
  if (revokedAt !== null) throw new CommandError(`the credential ${name} was revoked`)
  if (expiresAt !== null && expiresAt.getTime() <= Date.now()) {
    throw new CommandError(`the credential ${name} has expired`)
  }
}

function demandWithin(name: string, exceeding: readonly string[]): void {
  if (exceeding.length > 0) {
    throw new CommandError(`the credential ${name} does not have: ${exceeding.join(', ')}`)
  }
}

/** Whether one pattern lies within others is not decided: it must be one of them. */
function exceeding(
  what: string,
  wished: readonly string[] | undefined,
  has: readonly string[],
): string[] {
  return (wished ?? [])
    .filter((text) => !has.includes(text))
    .filter((text) => text.includes('*') || !matchesAnyGlob(has as Glob[], text))
    .map((text) => `${what} ${text}`)
}

function exceedingNetworks({ networks }: CredentialRow, wish: TokenRequest): string[] {
  const within = networks === null ? undefined : parseNetworks(networks)
  if (networks === null || within === undefined) return []
  return (wish.networks ?? [])
    .filter((text) => !networks.includes(text))
    .filter((text) => parseAddress(text) === undefined || !within.has(text))
    .map((text) => `network ${text}`)
}
