import type { Queryable } from '../database.ts'
import { CREDENTIAL_COLUMNS, type CredentialRow } from './credentials.ts'

/** The refresh tokens of a credential: one for each client that logged in with it. */
export const REFRESH_TOKENS_OF_CREDENTIAL_MAX = 1000

/** Adds a refresh token of a credential, and removes its oldest ones beyond `REFRESH_TOKENS_OF_CREDENTIAL_MAX`. */
export async function addRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
  credentialId: number,
  seconds: number,
): Promise<void> {
  await db.query(
    `with excess as (
       delete from refresh_tokens
        where id in (
          select id
            from refresh_tokens
           where credential_id = $2
           order by id desc
          offset $4
        )
     )
     insert into refresh_tokens (secret_sha256, credential_id, expires_at)
     values ($1, $2, now() + make_interval(secs => $3))`,
    [secretSha256, credentialId, seconds, REFRESH_TOKENS_OF_CREDENTIAL_MAX - 1],
  )
}

/** The credential of a refresh token. `isExpired` is about the token. */
export type RefreshTokenCredential = CredentialRow & { readonly isExpired: boolean }

/** Returns the credential of a refresh token, also when the token or the credential is revoked or expired. */
export async function findCredentialByRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
): Promise<RefreshTokenCredential | undefined> {
  const { rows } = await db.query<RefreshTokenCredential>(
    `select ${CREDENTIAL_COLUMNS}, t.expires_at <= now() as "isExpired"
       from refresh_tokens t
       join credentials on credentials.id = t.credential_id
      where t.secret_sha256 = $1`,
    [secretSha256],
  )
  return rows[0]
}

const REMOVED_AT_ONCE = 1000
/** An expired token is kept for this time: a client that still sends it is recognized, and no guesser. */
const EXPIRED_KEPT_SECONDS = 7 * 86_400

/** Removes refresh tokens that expired a week ago, at most 1000. Returns how many were removed. */
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
