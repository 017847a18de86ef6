import { type Actor, recordChange } from '../db/auth/audit.ts'
import {
  addCredential,
  CREDENTIAL_KINDS,
  type CredentialKind,
  type CredentialRow,
  listCredentials,
  listExpiringCredentials,
  lockCredential,
  revokeCredential,
  rotateCredential,
} from '../db/auth/credentials.ts'
import { addRevocation } from '../db/auth/revocations.ts'
import type { Database, Queryable } from '../db/database.ts'
import { findNetworkProblem } from '../networks/networks.ts'
import { badRequest, conflict, notFound, type RegistryError } from '../oci/errors.ts'
import { type Glob, parseRepositoryGlob, parseTagGlob } from '../oci/glob.ts'
import { ACTIONS, type Action, type Grant } from './access.ts'
import { REVOCATION_KEPT_SECONDS } from './lifetimes.ts'
import { generateSecret, hashSecret } from './secrets.ts'

export { CREDENTIAL_KINDS, type CredentialKind }

/** The user of the admin password, which the first start generates or the environment sets. */
export const ADMIN_USER = 'admin'

/** A request for a credential, which `Credentials.create` checks. */
export type CredentialRequest = {
  readonly name: string
  readonly kind: CredentialKind
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  readonly tags: readonly string[] | undefined
  readonly networks: readonly string[] | undefined
  readonly expiresAt: Date | undefined
}

/** A credential as lists show it, without its secret. */
export type Credential = Omit<CredentialRow, 'id'> & {
  readonly state: 'valid' | 'expired' | 'revoked'
}

const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/
/** Names with another meaning in the audit log or for clients. */
const RESERVED: ReadonlySet<string> = new Set([ADMIN_USER, 'operator', 'token'])
const NAME_LENGTH_MAX = 64
/** The patterns of a credential are part of its tokens, which must fit into a header. */
export const PATTERNS_LENGTH_MAX = 4096
export const PATTERNS_MAX = 100

/** The time for which the earlier secret is accepted after a rotation. */
export const ROTATION_OVERLAP_SECONDS_DEFAULT = 86_400
export const ROTATION_OVERLAP_SECONDS_MAX = 30 * 86_400
/** Replicas keep a verified secret for a minute: a shorter overlap would not be exact. 0 revokes it. */
const ROTATION_OVERLAP_SECONDS_MIN = 60

/** The credentials of the registry. Every change is in the audit log. */
export class Credentials {
  readonly #db: Database
  readonly #onRevoked: () => Promise<void>

  /** `onRevoked` applies a revocation in this process at once. Other replicas read it within seconds. */
  constructor(db: Database, onRevoked: () => Promise<void> = async () => {}) {
    this.#db = db
    this.#onRevoked = onRevoked
  }

  /**
   * Creates a credential and returns its secret, which is stored nowhere. Throws REQUEST_INVALID, and
   * CONFLICT for a name that was used before.
   */
  async create(
    request: CredentialRequest,
    actor: Actor,
  ): Promise<{ credential: Credential; secret: string }> {
    assertName(request.name)
    const grant = request.kind === 'builder' ? parseGrant(request) : requireUnrestricted(request)
    assertNetworks(request.networks)
    if (request.expiresAt !== undefined && !(request.expiresAt.getTime() > Date.now())) {
      throw badRequest('expiresAt must be in the future')
    }
    const secret = generateSecret()
    const row = await this.#db.transaction(async (tx) => {
      await recordChange(tx, actor, { action: 'create-credential', detail: request.name })
      const { name, kind, networks = null, expiresAt = null } = request
      const added = { name, kind, ...grant, networks, expiresAt, createdBy: actor.name }
      return (await addCredential(tx, added, hashSecret(secret))) ?? throwNameTaken(name)
    })
    return { credential: credentialOf(row), secret }
  }

  /**
   * Gives a credential a new secret, and returns it. The earlier secret, and the refresh tokens and sessions that the credential
   * has, are accepted for `overlapSeconds`; 0 ends them on every replica within seconds. Throws REQUEST_INVALID, NOT_FOUND, and
   * CONFLICT for a credential that has ended or still has an earlier secret.
   */
  async rotate(
    name: string,
    overlapSeconds: number = ROTATION_OVERLAP_SECONDS_DEFAULT,
    actor: Actor,
  ): Promise<{ credential: Credential; secret: string }> {
    assertOverlap(overlapSeconds)
    if (!NAME.test(name)) throw unknownCredential(name)
    const secret = generateSecret()
    const row = await this.#db.transaction(async (tx) => {
      const detail = `${name}, the earlier secret ends after ${overlapSeconds} s`
      // First, because a credential may rotate itself.
      await recordChange(tx, actor, { action: 'rotate-credential', detail })
      const locked = await lockCredential(tx, name)
      if (locked === undefined) throw unknownCredential(name)
      assertRotatable(locked, overlapSeconds)
      const { id, secretSha256, previousSecretSha256 } = locked
      if (overlapSeconds === 0) {
        for (const ended of [secretSha256, previousSecretSha256]) {
          if (ended !== null) await addRevocation(tx, secretSubject(ended), REVOCATION_KEPT_SECONDS)
        }
      }
      return rotateCredential(tx, id, hashSecret(secret), overlapSeconds)
    })
    if (row === undefined) throw unknownCredential(name)
    await this.#onRevoked()
    return { credential: credentialOf(row), secret }
  }

  /** Lists the credentials after `last`, by name. */
  async list(last: string, limit: number, db: Queryable = this.#db): Promise<Credential[]> {
    return (await listCredentials(db, last, limit)).map(credentialOf)
  }

  /** Lists the credentials that expire within so many days, the first one first. */
  async listExpiring(days: number, limit: number, db: Queryable = this.#db): Promise<Credential[]> {
    return (await listExpiringCredentials(db, days, limit)).map(credentialOf)
  }

  /** Revokes a credential and all its tokens, on every replica within seconds. Throws NOT_FOUND. */
  async revoke(name: string, actor: Actor): Promise<void> {
    // A text that cannot be a name may have a NUL, which Postgres does not accept.
    if (!NAME.test(name)) throw unknownCredential(name)
    await this.#db.transaction(async (tx) => {
      // First, because a credential may revoke itself.
      await recordChange(tx, actor, { action: 'revoke-credential', detail: name })
      const id = await revokeCredential(tx, name, REVOCATION_KEPT_SECONDS)
      if (id === undefined) throw unknownCredential(name)
    })
    await this.#onRevoked()
  }
}

function unknownCredential(name: string): RegistryError {
  return notFound(`there is no credential ${name.slice(0, NAME_LENGTH_MAX)}`)
}

function assertOverlap(seconds: number): void {
  const isLongEnough = seconds === 0 || seconds >= ROTATION_OVERLAP_SECONDS_MIN
  if (Number.isInteger(seconds) && isLongEnough && seconds <= ROTATION_OVERLAP_SECONDS_MAX) return
  throw badRequest(
    `overlapSeconds must be 0, or ${ROTATION_OVERLAP_SECONDS_MIN} to ${ROTATION_OVERLAP_SECONDS_MAX}, not ${seconds}`,
    { field: 'overlapSeconds' },
  )
}

function assertRotatable(row: CredentialRow, overlapSeconds: number): void {
  const { name, previousSecretUntil } = row
  const { state } = credentialOf(row)
  if (state !== 'valid') throw conflict(`${name} is ${state}: create another credential`)
  if (overlapSeconds === 0 || previousSecretUntil === null) return
  if (previousSecretUntil.getTime() <= Date.now()) return
  throw conflict(
    `an earlier secret of ${name} is valid until ${previousSecretUntil.toISOString()}: wait, or end it now with overlapSeconds 0`,
  )
}

/** Returns the subject of the revocation list that ends one secret of a credential. */
export function secretSubject(secretSha256: Buffer): string {
  return `secret:${secretSha256.toString('hex')}`
}

function throwNameTaken(name: string): never {
  throw conflict(`the name ${name} is or was in use: a name is used once`)
}

/** Returns the `origin` of tokens that come from the credential. */
export function originOf({ id }: { id: number }): string {
  return `credential:${id}`
}

/** Returns the grant of a credential or policy. */
export function grantOf(row: Pick<CredentialRow, 'repositories' | 'actions' | 'tags'>): Grant {
  return {
    repositories: row.repositories as Glob[],
    actions: row.actions as Action[],
    tags: row.tags as Glob[] | null,
  }
}

const UNRESTRICTED = { repositories: [], actions: [], tags: null }

type GrantRequest = Pick<CredentialRequest, 'repositories' | 'actions' | 'tags'>

/** Throws REQUEST_INVALID for restrictions that would have no effect. */
function requireUnrestricted({
  kind,
  repositories,
  actions,
  tags,
}: CredentialRequest): typeof UNRESTRICTED {
  if (repositories.length === 0 && actions.length === 0 && tags === undefined) return UNRESTRICTED
  throw badRequest(
    `a credential of the kind ${kind} has no restrictions: leave out repositories, actions and tags`,
  )
}

/** Throws REQUEST_INVALID for malformed patterns and unknown actions. */
export function parseGrant({ repositories, actions, tags }: GrantRequest): {
  repositories: Glob[]
  actions: Action[]
  tags: Glob[] | null
} {
  if (repositories.length === 0 || actions.length === 0) {
    throw badRequest('at least one repository pattern and one action are required')
  }
  if (Math.max(repositories.length, tags?.length ?? 0) > PATTERNS_MAX) {
    throw badRequest(`at most ${PATTERNS_MAX} patterns are allowed`)
  }
  const length = [...repositories, ...(tags ?? [])].join().length
  if (length > PATTERNS_LENGTH_MAX) {
    throw badRequest(`the patterns may have at most ${PATTERNS_LENGTH_MAX} characters in total`)
  }
  const unknown = actions.find((action) => !ACTIONS.some((one) => one === action))
  if (unknown !== undefined) {
    throw badRequest(
      `an action must be one of ${ACTIONS.join(', ')}, not "${unknown.slice(0, 32)}"`,
    )
  }
  if (tags?.length === 0)
    throw badRequest('an empty list of tag patterns permits no tag: leave tags out to permit any')
  return {
    repositories: repositories.map(parseRepositoryGlob),
    actions: ACTIONS.filter((action) => actions.includes(action)),
    tags: tags === undefined ? null : tags.map(parseTagGlob),
  }
}

/** Throws REQUEST_INVALID for a name that is not usable as the user of a URL. */
export function assertName(name: string): void {
  if (!NAME.test(name) || RESERVED.has(name)) {
    throw badRequest(
      `a name must consist of lower-case letters and digits, with . _ - only between them, of at most ${NAME_LENGTH_MAX} characters, and must not be ${[...RESERVED].join(' or ')}`,
    )
  }
}

/** Throws REQUEST_INVALID for an empty list, and for a text that is no network. */
export function assertNetworks(networks: readonly string[] | undefined): void {
  if (networks === undefined) return
  if (networks.length === 0 || networks.length > PATTERNS_MAX) {
    throw badRequest(`networks must have 1 to ${PATTERNS_MAX} entries`)
  }
  const problem = findNetworkProblem(networks)
  if (problem !== undefined) throw badRequest(`networks: ${problem}`)
}

function credentialOf({ id: _, ...row }: CredentialRow): Credential {
  const now = Date.now()
  const expired = row.expiresAt !== null && row.expiresAt.getTime() <= now
  const until = row.previousSecretUntil
  const previousSecretUntil = until !== null && until.getTime() > now ? until : null
  return {
    ...row,
    previousSecretUntil,
    state: row.revokedAt !== null ? 'revoked' : expired ? 'expired' : 'valid',
  }
}
