import type { Queryable, Transaction } from '../database.ts'

export type SigningAlgorithm = 'ES256' | 'EdDSA'

export type SigningKeyRow = {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: Readonly<Record<string, unknown>>
  readonly privateJwe: string
  readonly createdAt: Date
  readonly activeAt: Date
  readonly retiredAt: Date | null
  readonly goneAt: Date | null
}

/** Lists the keys that are or will be trusted, oldest first. */
export async function listSigningKeys(db: Queryable): Promise<SigningKeyRow[]> {
  const { rows } = await db.query<SigningKeyRow>(
    `select kid, algorithm, public_jwk as "publicJwk", private_jwe as "privateJwe",
            created_at as "createdAt", active_at as "activeAt", retired_at as "retiredAt",
            gone_at as "goneAt"
       from signing_keys
      where gone_at is null or gone_at > now()
      order by active_at, kid`,
  )
  return rows
}

export type NewSigningKey = Pick<SigningKeyRow, 'kid' | 'algorithm' | 'publicJwk' | 'privateJwe'>

const ROTATION_LOCK = 7_305_418_004

/** Serializes transactions that add keys. */
export async function lockSigningKeys(tx: Transaction): Promise<void> {
  await tx.query('select pg_advisory_xact_lock($1)', [ROTATION_LOCK])
}

/**
 * Adds a key that signs after `activeSeconds`. From then on, earlier keys stay trusted for `overlapSeconds`.
 */
export async function addSigningKey(
  tx: Transaction,
  key: NewSigningKey,
  activeSeconds: number,
  overlapSeconds: number,
): Promise<void> {
  await tx.query(
    `with retired as (
       update signing_keys
          set retired_at = greatest(active_at, now() + make_interval(secs => $5)),
              gone_at = greatest(active_at, now() + make_interval(secs => $5))
                      + make_interval(secs => $6)
        where retired_at is null
     )
     insert into signing_keys (kid, algorithm, public_jwk, private_jwe, active_at)
     values ($1, $2, $3, $4, now() + make_interval(secs => $5))`,
    [
      key.kid,
      key.algorithm,
      JSON.stringify(key.publicJwk),
      key.privateJwe,
      activeSeconds,
      overlapSeconds,
    ],
  )
}

/**
 * Removes every key: no token that they signed is trusted from now on. Their revocations wait for the writes that were
 * faster, and refuse the others.
 */
export async function removeSigningKeys(tx: Transaction, keepSeconds: number): Promise<void> {
  await tx.query(
    `with removed as (
       delete from signing_keys
       returning kid
     )
     insert into revocations (subject, expires_at)
     select 'key:' || kid, now() + make_interval(secs => $1)
       from removed
         on conflict (subject) do nothing`,
    [keepSeconds],
  )
}

/** Removes keys that are no longer trusted. */
export async function removeExpiredSigningKeys(db: Queryable): Promise<void> {
  await db.query(
    `delete from signing_keys
      where gone_at < now()`,
  )
}
