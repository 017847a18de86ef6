import type { Queryable, Transaction } from '../database.ts'
import type { HostRow } from '../hosts/hosts.ts'

/** `admin`: all rights. `builder`: its actions in its repositories. `metrics`: the metrics and nothing else. */
export const CREDENTIAL_KINDS = ['builder', 'metrics', 'admin'] as const
export type CredentialKind = (typeof CREDENTIAL_KINDS)[number]

export type CredentialRow = {
  readonly id: number
  readonly name: string
  /** `host`: the secret of a host, whose rights are in `hosts`. */
  readonly kind: CredentialKind | 'host'
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  /** Patterns of the tags that may be set or removed. Null: any tag. */
  readonly tags: readonly string[] | null
  /** Networks from which it may be used. Null: any address. */
  readonly networks: readonly string[] | null
  readonly createdBy: string | null
  readonly createdAt: Date
  readonly expiresAt: Date | null
  readonly revokedAt: Date | null
  readonly usedAt: Date | null
  /** The time until which the secret before the last rotation is accepted. Null: there was no rotation. */
  readonly previousSecretUntil: Date | null
}

/** The columns of a `CredentialRow`, for queries on `credentials` and joins with it. */
export const CREDENTIAL_COLUMNS = `credentials.id, credentials.name, credentials.kind,
  credentials.repositories, credentials.actions, credentials.tags, credentials.networks,
  credentials.created_by as "createdBy", credentials.created_at as "createdAt",
  credentials.expires_at as "expiresAt", credentials.revoked_at as "revokedAt",
  credentials.used_at as "usedAt", credentials.previous_until as "previousSecretUntil"`

/**
 * Returns the secret's hash of the admin credential of that name, which is created with `secretSha256` if it is
 * missing. When several replicas start at once, one creates it.
 */
export async function ensureCredential(
  db: Queryable,
  name: string,
  secretSha256: Buffer,
): Promise<{ secretSha256: Buffer; revoked: boolean }> {
  await db.query(
    `insert into credentials (name, kind, secret_sha256)
     values ($1, 'admin', $2)
         on conflict (name) do nothing`,
    [name, secretSha256],
  )
  const { rows } = await db.query<{ secretSha256: Buffer; revoked: boolean }>(
    `select secret_sha256 as "secretSha256", revoked_at is not null as revoked
       from credentials
      where name = $1`,
    [name],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`credential ${name} vanished while it was created`)
  return row
}

export type NewCredential = Pick<
  CredentialRow,
  'name' | 'kind' | 'repositories' | 'actions' | 'tags' | 'networks' | 'createdBy' | 'expiresAt'
>

/** Adds a credential. Returns undefined when the name is or was in use. */
export async function addCredential(
  db: Queryable,
  credential: NewCredential,
  secretSha256: Buffer,
): Promise<CredentialRow | undefined> {
  const { rows } = await db.query<CredentialRow>(
    `insert into credentials
            (name, kind, secret_sha256, repositories, actions, tags, networks, created_by, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (name) do nothing
     returning ${CREDENTIAL_COLUMNS}`,
    [
      credential.name,
      credential.kind,
      secretSha256,
      credential.repositories,
      credential.actions,
      credential.tags,
      credential.networks,
      credential.createdBy,
      credential.expiresAt,
    ],
  )
  return rows[0]
}

/** A credential that was found by one of its secrets. */
export type CredentialOfSecret = CredentialRow & {
  /** When this secret ends, after a rotation. Null for the current secret. */
  readonly secretUntil: Date | null
  readonly secretSha256: Buffer
  /** The host whose secret it is, with its grant; null: none, or it is revoked. */
  readonly host: Pick<HostRow, 'id' | 'name' | 'repositories' | 'networks' | 'grantVersion'> | null
}

const HOST_OF_CREDENTIAL = `(
  select json_build_object(
           'id', h.id, 'name', h.name, 'repositories', h.repositories, 'networks', h.networks,
           'grantVersion', h.grant_version
         )
    from hosts h
   where h.credential_id = credentials.id
     and h.state = 'active'
) as host`

/**
 * Returns the credential whose secret has this hash, or had it before the last rotation, also when the credential or the
 * secret is revoked or expired.
 */
export async function findCredentialBySecret(
  db: Queryable,
  secretSha256: Buffer,
): Promise<CredentialOfSecret | undefined> {
  const { rows } = await db.query<CredentialOfSecret>(
    `select ${CREDENTIAL_COLUMNS}, null::timestamptz as "secretUntil",
            secret_sha256 as "secretSha256", ${HOST_OF_CREDENTIAL}
       from credentials
      where secret_sha256 = $1
     union all
     select ${CREDENTIAL_COLUMNS}, previous_until, previous_secret_sha256, ${HOST_OF_CREDENTIAL}
       from credentials
      where previous_secret_sha256 = $1`,
    [secretSha256],
  )
  return rows[0]
}

/** The secrets of a credential, locked for a rotation. */
export type LockedSecrets = CredentialRow & {
  readonly secretSha256: Buffer
  readonly previousSecretSha256: Buffer | null
}

/** Locks a credential. Returns undefined when there is none of that name. */
export async function lockCredential(
  tx: Transaction,
  name: string,
): Promise<LockedSecrets | undefined> {
  const { rows } = await tx.query<LockedSecrets>(
    `select ${CREDENTIAL_COLUMNS}, secret_sha256 as "secretSha256",
            previous_secret_sha256 as "previousSecretSha256"
       from credentials
      where name = $1
        for update`,
    [name],
  )
  return rows[0]
}

/**
 * Gives a locked credential a new secret. The current one is accepted for `overlapSeconds`, and the refresh tokens and
 * sessions that the credential has end with it.
 */
export async function rotateCredential(
  tx: Transaction,
  id: number,
  secretSha256: Buffer,
  overlapSeconds: number,
): Promise<CredentialRow | undefined> {
  const { rows } = await tx.query<CredentialRow>(
    `with ending as (
       update refresh_tokens
          set ends_at = least(ends_at, now() + make_interval(secs => $3)),
              expires_at = least(expires_at, now() + make_interval(secs => $3))
        where credential_id = $1
     ), ending_sessions as (
       update sessions
          set ends_at = least(ends_at, now() + make_interval(secs => $3))
        where credential_id = $1
     )
     update credentials
        set previous_secret_sha256 = secret_sha256,
            previous_until = now() + make_interval(secs => $3),
            secret_sha256 = $2
      where id = $1
     returning ${CREDENTIAL_COLUMNS}`,
    [id, secretSha256, overlapSeconds],
  )
  return rows[0]
}

/** Returns the credential of that name, also when it is revoked or expired. */
export async function findCredentialByName(
  db: Queryable,
  name: string,
): Promise<CredentialRow | undefined> {
  const { rows } = await db.query<CredentialRow>(
    `select ${CREDENTIAL_COLUMNS}
       from credentials
      where name = $1`,
    [name],
  )
  return rows[0]
}

/** Lists credentials after `last`, by name. Credentials of hosts are listed with the hosts. */
export async function listCredentials(
  db: Queryable,
  last: string,
  limit: number,
): Promise<CredentialRow[]> {
  const { rows } = await db.query<CredentialRow>(
    `select ${CREDENTIAL_COLUMNS}
       from credentials
      where name > $1
        and kind <> 'host'
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

/** Lists the valid credentials that expire within so many days, the first one first. */
export async function listExpiringCredentials(
  db: Queryable,
  days: number,
  limit: number,
): Promise<CredentialRow[]> {
  const { rows } = await db.query<CredentialRow>(
    `select ${CREDENTIAL_COLUMNS}
       from credentials
      where expires_at > now()
        and expires_at <= now() + make_interval(days => $1)
        and revoked_at is null
        and kind <> 'host'
      order by expires_at
      limit $2`,
    [days, limit],
  )
  return rows
}

/**
 * Revokes a credential and with it its refresh tokens, and adds a revocation that every replica reads. Returns
 * undefined when there is no credential of that name.
 */
export async function revokeCredential(
  db: Queryable,
  name: string,
  keepSeconds: number,
): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    `with revoked as (
       update credentials
          set revoked_at = coalesce(revoked_at, now())
        where name = $1
       returning id
     ), revocation as (
       insert into revocations (subject, expires_at)
       select 'credential:' || id, now() + make_interval(secs => $2)
         from revoked
           on conflict (subject) do update
          set revoked_at = now(),
              expires_at = excluded.expires_at
     )
     select id
       from revoked`,
    [name, keepSeconds],
  )
  return rows[0]?.id
}

const USE_RECORDED_SECONDS = 60

/** Records the time of use, to the minute. */
export async function touchCredential(db: Queryable, id: number): Promise<void> {
  await db.query(
    `update credentials
        set used_at = now()
      where id = $1
        and (used_at is null or used_at < now() - make_interval(secs => $2))`,
    [id, USE_RECORDED_SECONDS],
  )
}
