import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import type { Queryable, Transaction } from '../database.ts'

export type NewUploadUrl = {
  readonly repository: Repository
  readonly tag: Tag
  /** The creator, who is recorded as the pusher. */
  readonly actor: string
  readonly origin: string | null
  /** The token that created the URL. */
  readonly tokenId: string | null
  /** The key that signed that token. */
  readonly keyId: string | null
  /** The networks from which it may be used. Null: from anywhere. */
  readonly networks: readonly string[] | null
}

/** Adds a URL that lives for `seconds`, and never longer than the credential it came from. */
export async function addUploadUrl(
  db: Queryable,
  uploadUrl: NewUploadUrl,
  secretSha256: Buffer,
  seconds: number,
): Promise<{ id: number; expiresAt: Date }> {
  const { rows } = await db.query<{ id: number; expiresAt: Date }>(
    `insert into upload_urls
            (secret_sha256, repository, tag, actor, origin, token_id, key_id, networks, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, least(
              now() + make_interval(secs => $9),
              (select expires_at from credentials where 'credential:' || id = $5)
            ))
     returning id, expires_at as "expiresAt"`,
    [
      secretSha256,
      uploadUrl.repository,
      uploadUrl.tag,
      uploadUrl.actor,
      uploadUrl.origin,
      uploadUrl.tokenId,
      uploadUrl.keyId,
      uploadUrl.networks,
      seconds,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert of one row returned none')
  return row
}

export type UploadUrlRow = NewUploadUrl & {
  readonly id: number
  readonly expiresAt: Date
  readonly isExpired: boolean
  readonly usedAt: Date | null
  /** True when the token, its signing key, or the credential or policy that it came from was revoked. */
  readonly isRevoked: boolean
}

/** Returns the URL whose secret has this hash, also when it is used, expired or revoked. */
export async function findUploadUrl(
  db: Queryable,
  secretSha256: Buffer,
): Promise<UploadUrlRow | undefined> {
  const { rows } = await db.query<UploadUrlRow>(
    `select u.id, u.repository, u.tag, u.actor, u.origin, u.token_id as "tokenId",
            u.key_id as "keyId", u.networks,
            u.expires_at as "expiresAt", u.expires_at <= now() as "isExpired",
            u.used_at as "usedAt",
            exists (
              select 1
                from revocations
               where subject in (u.origin, 'token:' || u.token_id, 'key:' || u.key_id)
            ) as "isRevoked"
       from upload_urls u
      where u.secret_sha256 = $1`,
    [secretSha256],
  )
  return rows[0]
}

/** Counts an attempt to use the URL. Returns false after `most` attempts. */
export async function countUploadUrlAttempt(
  db: Queryable,
  id: number,
  most: number,
): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `update upload_urls
        set attempts = attempts + 1
      where id = $1
        and attempts < $2
     returning id`,
    [id, most],
  )
  return rows.length > 0
}

/**
 * Marks the URL used. When two calls are concurrent, the second waits for the first and returns false; so does
 * a call for a URL whose creator was revoked meanwhile. Expiry is not checked here: a push that began in
 * time may end later.
 */
export async function markUploadUrlUsed(
  tx: Transaction,
  id: number,
  digest: Digest,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `update upload_urls
        set used_at = now(),
            digest = $2
      where id = $1
        and used_at is null
        and not exists (
          select 1
            from revocations
           where subject in (
             upload_urls.origin,
             'token:' || upload_urls.token_id,
             'key:' || upload_urls.key_id
           )
        )
     returning id`,
    [id, digest],
  )
  return rows.length > 0
}

/** Expired URLs are kept so that a push that began in time may end, and a late one learns the reason. */
const KEPT_SECONDS = 86_400
const REMOVED_AT_ONCE = 1000

/** Removes URLs that expired a day ago, at most 1000. Returns how many were removed. */
export async function removeExpiredUploadUrls(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from upload_urls
      where id in (
        select id
          from upload_urls
         where expires_at < now() - make_interval(secs => $1)
         order by expires_at
         limit $2
      )
     returning id`,
    [KEPT_SECONDS, REMOVED_AT_ONCE],
  )
  return rows.length
}
