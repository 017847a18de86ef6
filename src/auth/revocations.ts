import { type Actor, recordChange } from '../db/auth/audit.ts'
import { addRevocation, listRevocations } from '../db/auth/revocations.ts'
import type { Database, Queryable } from '../db/database.ts'
import { badRequest, type RegistryError, unavailable } from '../oci/errors.ts'
import { isUuid } from '../oci/uuid.ts'
import { REVOCATION_KEPT_SECONDS } from './lifetimes.ts'

/** Every replica reads the list at this interval. A revocation is effective everywhere shortly after. */
export const REVOCATION_REFRESH_SECONDS = 2
/** A list that is older is not used: all tokens and credentials are then refused. */
const STALE_SECONDS_MAX = 60
// A row becomes visible when its transaction commits, up to this time after its timestamp.
const OVERLAP_SECONDS = 90
const RETRY_AFTER_SECONDS = 2

/** The revoked subjects, as the database had them seconds ago. */
export class RevocationList {
  readonly #db: Queryable
  /** Subjects, and when each revocation ends: milliseconds since the epoch. */
  readonly #subjects = new Map<string, number>()
  #seenAt: number | undefined
  #refreshing: Promise<void> | undefined

  constructor(db: Queryable) {
    this.#db = db
  }

  /** Reads new revocations. Concurrent calls share one read. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#read().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  /** True when one of the subjects was revoked. Throws UNAVAILABLE when the list is too old and cannot be read. */
  async has(subjects: readonly string[]): Promise<boolean> {
    if (this.#isStale()) {
      await this.refresh().catch((cause: unknown) => {
        throw revocationsUnavailable(cause)
      })
    }
    return this.hasWithoutRefresh(subjects) === true
  }

  /** Does the same without waiting. Returns undefined when the list is too old. */
  hasWithoutRefresh(subjects: readonly string[]): boolean | undefined {
    return this.#isStale() ? undefined : subjects.some((subject) => this.#subjects.has(subject))
  }

  #isStale(): boolean {
    return this.#seenAt === undefined || performance.now() - this.#seenAt > STALE_SECONDS_MAX * 1000
  }

  async #read(): Promise<void> {
    const askedAt = performance.now()
    const age = this.#seenAt === undefined ? undefined : (askedAt - this.#seenAt) / 1000
    const rows = await listRevocations(this.#db, age === undefined ? age : age + OVERLAP_SECONDS)
    for (const { subject, expiresAt } of rows) this.#subjects.set(subject, expiresAt.getTime())
    const now = Date.now()
    for (const [subject, expiresAt] of this.#subjects) {
      if (expiresAt < now) this.#subjects.delete(subject)
    }
    this.#seenAt = askedAt
  }
}

function revocationsUnavailable(cause: unknown): RegistryError {
  return unavailable('the registry cannot read its revocation list at the moment, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  })
}

/** Revokes single tokens. */
export class TokenRevocations {
  readonly #db: Database
  readonly #onRevoked: () => Promise<void>

  /** `onRevoked` applies a revocation in this process at once. Other replicas read it within seconds. */
  constructor(db: Database, onRevoked: () => Promise<void> = async () => {}) {
    this.#db = db
    this.#onRevoked = onRevoked
  }

  /**
   * Revokes a token, on every replica within seconds, also one that never existed. Throws REQUEST_INVALID
   * unless `tokenId` has the form of a `jti` of this registry.
   */
  async revoke(tokenId: string, actor: Actor): Promise<void> {
    if (!isUuid(tokenId)) {
      throw badRequest('a token is revoked by its jti, a UUID, not by the token itself')
    }
    await this.#db.transaction(async (tx) => {
      // First, because a token may revoke itself.
      await recordChange(tx, actor, { action: 'revoke-token', detail: tokenId })
      await addRevocation(tx, `token:${tokenId}`, REVOCATION_KEPT_SECONDS)
    })
    await this.#onRevoked()
  }
}
