import { type Actor, recordChange } from '../db/auth/audit.ts'
import { addRevocation, listRevocations } from '../db/auth/revocations.ts'
import type { Database, Queryable } from '../db/database.ts'
import { badRequest, type RegistryError, unavailable } from '../oci/errors.ts'
import { REVOCATION_KEPT_SECONDS } from './lifetimes.ts'

/** How often every replica looks: a revocation is effective everywhere within this and a moment. */
export const REVOCATION_REFRESH_SECONDS = 2
/** A list that is older says nothing: then nobody is believed. */
const STALE_SECONDS_MAX = 60
// A row is seen when its transaction commits, which may be this long after its time.
const OVERLAP_SECONDS = 90
const RETRY_AFTER_SECONDS = 2

/** What is no longer believed, as the database had it seconds ago. */
export class RevocationList {
  readonly #db: Queryable
  /** Subjects, and when each can be forgotten: milliseconds since the epoch. */
  readonly #subjects = new Map<string, number>()
  #seenAt: number | undefined
  #refreshing: Promise<void> | undefined

  constructor(db: Queryable) {
    this.#db = db
  }

  /** Reads what is new. Those who ask while it runs wait for the same answer. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#read().finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  /** True when one of them was revoked. Throws UNAVAILABLE when the list is too old to tell. */
  async has(subjects: readonly string[]): Promise<boolean> {
    if (this.#isStale()) {
      await this.refresh().catch((cause: unknown) => {
        throw revocationsUnavailable(cause)
      })
    }
    return this.hasWithoutRefresh(subjects) === true
  }

  /** The same without waiting; undefined when the list is too old to tell. */
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
  return unavailable('the registry cannot tell at the moment what was revoked, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  })
}

/** Takes single tokens back. */
export class TokenRevocations {
  readonly #db: Database
  readonly #onRevoked: () => Promise<void>

  /** `onRevoked` lets this process know at once what the others will hear of. */
  constructor(db: Database, onRevoked: () => Promise<void> = async () => {}) {
    this.#db = db
    this.#onRevoked = onRevoked
  }

  /**
   * Nobody believes the token any more, on any replica within seconds; one that never existed is
   * revoked just the same. Throws REQUEST_INVALID for what is no `jti` of ours.
   */
  async revoke(tokenId: string, actor: Actor): Promise<void> {
    if (!TOKEN_ID.test(tokenId)) {
      throw badRequest(
        'a token is revoked by its jti, which is a UUID, and not by the token itself',
      )
    }
    await this.#db.transaction(async (tx) => {
      await addRevocation(tx, `token:${tokenId}`, REVOCATION_KEPT_SECONDS)
      await recordChange(tx, actor, { action: 'revoke-token', detail: tokenId })
    })
    await this.#onRevoked()
  }
}

const TOKEN_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
