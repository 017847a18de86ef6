import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'

export type NewUploadUrl = {
  readonly repository: Repository
  readonly tag: Tag
  /** Whose push it will be. */
  readonly actor: string
  readonly origin: string | null
  /** The token with which it was made. */
  readonly tokenId: string | null
  /** From where it may be used; null: from anywhere. */
  readonly networks: readonly string[] | null
}

/** Adds one that ends after so many seconds, and never after the credential that it came from. */
export async function addUploadUrl(
  db: Queryable,
  drop: NewUploadUrl,
  secretSha256: Buffer,
  seconds: number,
): Promise<{ id: number; expiresAt: Date }> {
  const { rows } = await db.query<{ id: number; expiresAt: Date }>(
    `insert into drops (secret_sha256, repository, tag, actor, origin, token_id, networks, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, least(
              now() + make_interval(secs => $8),
              (select expires_at from credentials where 'credential:' || id = $5)
            ))
     returning id, expires_at as "expiresAt"`,
    [
      secretSha256,
      drop.repository,
      drop.tag,
      drop.actor,
      drop.origin,
      drop.tokenId,
      drop.networks,
      seconds,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert of one row answers with it')
  return row
}

export type UploadUrlRow = NewUploadUrl & {
  readonly id: number
  readonly expiresAt: Date
  readonly isExpired: boolean
  readonly usedAt: Date | null
  /** True when the token, credential or policy that it came from was revoked. */
  readonly isRevoked: boolean
}

/** The one whose secret has this hash, also when it is of no use any more. */
export async function findUploadUrl(
  db: Queryable,
  secretSha256: Buffer,
): Promise<UploadUrlRow | undefined> {
  const { rows } = await db.query<UploadUrlRow>(
    `select d.id, d.repository, d.tag, d.actor, d.origin, d.token_id as "tokenId", d.networks,
            d.expires_at as "expiresAt", d.expires_at <= now() as "isExpired",
            d.used_at as "usedAt",
            exists (
              select 1
                from revocations
               where subject in (d.origin, 'token:' || d.token_id)
            ) as "isRevoked"
       from drops d
      where d.secret_sha256 = $1`,
    [secretSha256],
  )
  return rows[0]
}

/**
 * Uses it up. Of two at once the second waits for the first, and gets false; so does one whose
 * creator was revoked meanwhile. Time is not looked at: what began in time may end later.
 */
export async function markUploadUrlUsed(
  tx: Transaction,
  id: number,
  digest: Digest,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `update drops
        set used_at = now(),
            digest = $2
      where id = $1
        and used_at is null
        and not exists (
          select 1
            from revocations
           where subject in (drops.origin, 'token:' || drops.token_id)
        )
     returning id`,
    [id, digest],
  )
  return rows.length > 0
}

/** Until then it is told why it is of no use, and what began in time may end. */
const KEPT_SECONDS = 86_400
const REMOVED_AT_ONCE = 1000

/** Forgets those that expired a day ago. Returns how many there were, at most a thousand at once. */
export async function removeExpiredUploadUrls(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from drops
      where id in (
        select id
          from drops
         where expires_at < now() - make_interval(secs => $1)
         order by expires_at
         limit $2
      )
     returning id`,
    [KEPT_SECONDS, REMOVED_AT_ONCE],
  )
  return rows.length
}
