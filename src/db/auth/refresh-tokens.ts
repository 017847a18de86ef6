import type { Queryable } from '../database.ts'
import { CREDENTIAL_COLUMNS, type CredentialRow } from './credentials.ts'

/** Adds a refresh token of a credential. */
export async function addRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
  credentialId: number,
  seconds: number,
): Promise<void> {
  await db.query(
    `insert into refresh_tokens (secret_sha256, credential_id, expires_at)
     values ($1, $2, now() + make_interval(secs => $3))`,
    [secretSha256, credentialId, seconds],
  )
}

/** Returns the credential of a refresh token, also when the credential is revoked or expired. */
export async function findCredentialByRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
): Promise<CredentialRow | undefined> {
  const { rows } = await db.query<CredentialRow>(
    `select ${CREDENTIAL_COLUMNS}
       from refresh_tokens t
       join credentials on credentials.id = t.credential_id
      where t.secret_sha256 = $1
        and t.expires_at > now()`,
    [secretSha256],
  )
  return rows[0]
}

const REMOVED_AT_ONCE = 1000

/** Removes expired refresh tokens, at most 1000. Returns how many were removed. */
export async function removeExpiredRefreshTokens(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from refresh_tokens
      where id in (
        select id
          from refresh_tokens
         where expires_at < now()
         limit $1
      )
     returning id`,
    [REMOVED_AT_ONCE],
  )
  return rows.length
}
