import type { Queryable } from '../database.ts'
import { CREDENTIAL_COLUMNS, type CredentialRow } from './credentials.ts'

/** The refresh tokens of a credential: one for each client that logged in with it. */
export const REFRESH_TOKENS_OF_CREDENTIAL_MAX = 1000

/** A refresh token lives for this time after its last use: machines that deploy once a quarter stay logged in. */
export const REFRESH_SECONDS = 180 * 86_400

/** Adds a refresh token of a credential, made with the secret of this hash, and removes the least recently used beyond `REFRESH_TOKENS_OF_CREDENTIAL_MAX`. */
export async function addRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
  credentialId: number,
  seconds: number,
  credentialSecretSha256: Buffer,
): Promise<void> {
  await db.query(
    `with excess as (
       delete from refresh_tokens
        where id in (
          select id
            from refresh_tokens
           where credential_id = $2
           order by used_at desc, id desc
          offset $4
        )
     )
     insert into refresh_tokens (secret_sha256, credential_id, expires_at, ends_at)
     select $1, $2, least(now() + make_interval(secs => $3), made.ends_at), made.ends_at
       from (
         -- A process may not know yet that the secret was rotated.
         select case when secret_sha256 <> $5 then coalesce(previous_until, now()) end as ends_at
           from credentials
          where id = $2
       ) made`,
    [
      secretSha256,
      credentialId,
      seconds,
      REFRESH_TOKENS_OF_CREDENTIAL_MAX - 1,
      credentialSecretSha256,
    ],
  )
}

/** The credential of a refresh token. The other fields are about the token. */
export type RefreshTokenCredential = CredentialRow & {
  readonly refreshTokenId: number
  readonly isExpired: boolean
  /** True when `prolongRefreshToken` would change it. */
  readonly isProlongable: boolean
}

/** The end of a refresh token that is used now: never after its credential, or the secret with which it was made. */
const NEXT_EXPIRY = `least(now() + make_interval(secs => $2), credentials.expires_at, t.ends_at)`
/** A use is recorded once a day, so that a login costs no write each time. */
const USE_RECORDED_SECONDS = 86_400

/** Returns the credential of a refresh token, also when the token or the credential is revoked or expired. */
export async function findCredentialByRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
): Promise<RefreshTokenCredential | undefined> {
  const { rows } = await db.query<RefreshTokenCredential>(
    `select ${CREDENTIAL_COLUMNS}, t.id as "refreshTokenId", t.expires_at <= now() as "isExpired",
            t.used_at < now() - make_interval(secs => $3)
            or t.expires_at < ${NEXT_EXPIRY} - make_interval(secs => $3) as "isProlongable"
       from refresh_tokens t
       join credentials on credentials.id = t.credential_id
      where t.secret_sha256 = $1`,
    [secretSha256, REFRESH_SECONDS, USE_RECORDED_SECONDS],
  )
  return rows[0]
}

/** Records the use of a refresh token that has not expired, and prolongs its life. */
export async function prolongRefreshToken(db: Queryable, id: number): Promise<void> {
  await db.query(
    `update refresh_tokens t
        set used_at = now(),
            expires_at = ${NEXT_EXPIRY}
       from credentials
      where t.id = $1
        and t.expires_at > now()
        and credentials.id = t.credential_id`,
    [id, REFRESH_SECONDS],
  )
}

const REMOVED_AT_ONCE = 1000
/** An expired token is kept for this time: a client that still sends it is recognized, and no guesser. */
const EXPIRED_KEPT_SECONDS = 180 * 86_400

/** Removes refresh tokens that expired half a year ago, at most 1000. Returns how many were removed. */
export async function removeExpiredRefreshTokens(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from refresh_tokens
      where id in (
        select id
          from refresh_tokens
         where expires_at < now() - make_interval(secs => $2)
         limit $1
      )
     returning id`,
    [REMOVED_AT_ONCE, EXPIRED_KEPT_SECONDS],
  )
  return rows.length
}
