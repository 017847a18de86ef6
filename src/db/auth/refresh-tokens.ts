import type { Queryable } from '../database.ts'
import type { CredentialRow } from './credentials.ts'

/** Adds one for a credential. */
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

/** The credential that it stands for, also when that is revoked or has expired. */
export async function findCredentialByRefreshToken(
  db: Queryable,
  secretSha256: Buffer,
): Promise<CredentialRow | undefined> {
  const { rows } = await db.query<CredentialRow>(
    `select c.id, c.name, c.kind, c.repositories, c.actions, c.tags, c.networks,
            c.created_by as "createdBy", c.created_at as "createdAt",
            c.expires_at as "expiresAt", c.revoked_at as "revokedAt", c.used_at as "usedAt"
       from refresh_tokens t
       join credentials c on c.id = t.credential_id
      where t.secret_sha256 = $1
        and t.expires_at > now()`,
    [secretSha256],
  )
  return rows[0]
}

const REMOVED_AT_ONCE = 1000

/** Forgets what has expired. Returns how many there were, at most a thousand at once. */
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
