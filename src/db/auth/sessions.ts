import { given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'
import { CREDENTIAL_COLUMNS, type CredentialRow } from './credentials.ts'

/** The sessions of a caller: one for each browser of each person who uses the login. */
export const SESSIONS_OF_CALLER_MAX = 100

/** A session ends when nobody used it for this time, and in any case after `SESSION_SECONDS_MAX`. */
export const SESSION_IDLE_SECONDS = 12 * 3600
export const SESSION_SECONDS_MAX = 7 * 86_400

/** The login that a session comes from. One of the last three fields is given. */
export type SessionLogin = {
  readonly actor: string
  readonly origin: string | null
  readonly credential?: { readonly id: number; readonly secretSha256: Buffer }
  /** The claims of a token. */
  readonly token?: object
  readonly passwordProof?: Buffer
}

/**
 * Adds a session that lives for at most `seconds`, and removes those of the caller that were used least recently, beyond
 * `SESSIONS_OF_CALLER_MAX`. It ends with the secret of its credential. Returns its lifetime in seconds.
 */
export async function addSession(
  tx: Transaction,
  secretSha256: Buffer,
  { actor, origin, credential, token, passwordProof }: SessionLogin,
  seconds: number,
): Promise<number> {
  const { rows } = await tx.query<{ seconds: number }>(
    `with excess as (
       delete from sessions
        where id in (
          select id
            from sessions
           where actor = $2
             and origin is not distinct from $3
           order by seen_at desc, id desc
          offset $9
        )
     )
     insert into sessions
            (secret_sha256, actor, origin, credential_id, credential_secret_sha256, token, password_proof,
             ends_at)
     select $1, $2, $3, $4, $5, $6, $7,
            least(
              now() + make_interval(secs => $8),
              -- A process may not know yet that the secret was rotated.
              (select case when secret_sha256 <> $5 then coalesce(previous_until, now()) end
                 from credentials
                where id = $4)
            )
     returning extract(epoch from ends_at - now())::integer as seconds`,
    [
      secretSha256,
      actor,
      origin,
      credential?.id ?? null,
      credential?.secretSha256 ?? null,
      token === undefined ? null : JSON.stringify(token),
      passwordProof ?? null,
      seconds,
      SESSIONS_OF_CALLER_MAX - 1,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert of one row returned none')
  return row.seconds
}

export type SessionRow = {
  readonly sessionId: string
  readonly endsAt: Date
  readonly isEnded: boolean
  /** True when `touchSession` would change it. */
  readonly isSeenDue: boolean
  readonly credentialSecretSha256: Buffer | null
  readonly token: unknown
  readonly passwordProof: Buffer | null
} & (CredentialRow | { readonly [column in keyof CredentialRow]: null })

/** A use is recorded once a minute, so that a page costs no write each time. */
const SEEN_RECORDED_SECONDS = 60

/** Returns the session whose secret has this hash with its credential, also when one of them has ended. */
export async function findSession(
  db: Queryable,
  secretSha256: Buffer,
): Promise<SessionRow | undefined> {
  const { rows } = await db.query<SessionRow>(
    `select s.id as "sessionId", s.ends_at as "endsAt",
            s.ends_at <= now() or s.seen_at <= now() - make_interval(secs => $2) as "isEnded",
            s.seen_at <= now() - make_interval(secs => $3) as "isSeenDue",
            s.credential_secret_sha256 as "credentialSecretSha256", s.token,
            s.password_proof as "passwordProof", ${CREDENTIAL_COLUMNS}
       from sessions s
       left join credentials on credentials.id = s.credential_id
      where s.secret_sha256 = $1`,
    [secretSha256, SESSION_IDLE_SECONDS, SEEN_RECORDED_SECONDS],
  )
  return rows[0]
}

/** Records that a session is used, to the minute. */
export async function touchSession(db: Queryable, id: string): Promise<void> {
  await db.query(
    `update sessions
        set seen_at = now()
      where id = $1
        and seen_at <= now() - make_interval(secs => $2)`,
    [id, SEEN_RECORDED_SECONDS],
  )
}

/** A session that was removed, and the caller that it stood for. */
export type RemovedSession = {
  readonly id: string
  readonly actor: string
  readonly origin: string | null
  readonly tokenId: string | null
}

/** Removes the session whose secret has this hash. Returns undefined when there is none. */
export async function removeSession(
  tx: Transaction,
  secretSha256: Buffer,
): Promise<RemovedSession | undefined> {
  const { rows } = await tx.query<RemovedSession>(
    `delete from sessions
      where secret_sha256 = $1
     returning id, actor, origin, token ->> 'tokenId' as "tokenId"`,
    [secretSha256],
  )
  return rows[0]
}

/** Which sessions are meant. */
export type SessionFilter = {
  /** The name of their login; undefined: any. */
  readonly actor?: string | undefined
  /** The source of its rights, null for none; undefined: any. */
  readonly origin?: string | null | undefined
  /** Only sessions from this token. */
  readonly tokenId?: string | undefined
  readonly id?: string | undefined
  /** All but the one whose secret has this hash. */
  readonly exceptSecretSha256?: Buffer | undefined
}

function conditionsOf({ actor, origin, tokenId, id, exceptSecretSha256 }: SessionFilter) {
  return [
    ...given('and s.actor = $', actor),
    ...given('and s.origin is not distinct from $', origin),
    ...given("and s.token ->> 'tokenId' = $", tokenId),
    ...given('and s.id = $::uuid', id),
    ...given('and s.secret_sha256 <> $', exceptSecretSha256),
  ]
}

/** A session as people see it. */
export type ListedSession = {
  readonly id: string
  readonly actor: string
  readonly login: 'credential' | 'token' | 'password'
  readonly createdAt: Date
  /** The time of its last use, to the minute. */
  readonly seenAt: Date
  /** Its end when nobody uses it any more. */
  readonly endsAt: Date
  /** True when its secret has the hash that was given. */
  readonly isCurrent: boolean
}

/** Lists sessions that have not ended and whose login is not revoked, the one that was used last first. */
export async function listSessions(
  db: Queryable,
  filter: SessionFilter,
  secretSha256: Buffer | null,
  limit: number,
): Promise<ListedSession[]> {
  const { rows } = await db.query<ListedSession>(
    ...withConditions(
      `select s.id, s.actor,
              case when s.credential_id is not null then 'credential'
                   when s.token is not null then 'token'
                   else 'password' end as login,
              s.created_at as "createdAt", s.seen_at as "seenAt",
              least(s.ends_at, s.seen_at + make_interval(secs => $1)) as "endsAt",
              coalesce(s.secret_sha256 = $2, false) as "isCurrent"
         from sessions s
        where s.ends_at > now()
          and s.seen_at > now() - make_interval(secs => $1)
          and not exists (
                select 1
                  from revocations r
                 where r.subject in (s.origin, 'token:' || (s.token ->> 'tokenId'))
              )
          {wanted}
        order by s.seen_at desc, s.id
        limit $3`,
      [SESSION_IDLE_SECONDS, secretSha256, limit],
      { wanted: conditionsOf(filter) },
    ),
  )
  return rows
}

/**
 * Ends sessions, and adds revocations that every replica reads. They stay in the table until `removeEndedSessions`, so that
 * their cookies are recognized. Returns how many there were.
 */
export async function endSessions(
  tx: Transaction,
  filter: SessionFilter,
  keepSeconds: number,
): Promise<number> {
  const { rows } = await tx.query<{ count: number }>(
    ...withConditions(
      `with ended as (
         update sessions s
            set ends_at = now()
          where s.ends_at > now()
            and s.seen_at > now() - make_interval(secs => $1)
            {wanted}
         returning s.id
       ), revocation as (
         insert into revocations (subject, expires_at)
         select 'session:' || id, now() + make_interval(secs => $2)
           from ended
             on conflict (subject) do nothing
       )
       select count(*) as count
         from ended`,
      [SESSION_IDLE_SECONDS, keepSeconds],
      { wanted: conditionsOf(filter) },
    ),
  )
  return rows[0]?.count ?? 0
}

const REMOVED_AT_ONCE = 1000
/** An ended session is kept for this time: a browser that still sends its cookie is recognized, and no guesser. */
const ENDED_KEPT_SECONDS = 86_400

/** Removes sessions that ended a day ago, at most 1000. Returns how many were removed. */
export async function removeEndedSessions(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: string }>(
    `delete from sessions
      where id in (
        select id
          from sessions
         where ends_at < now() - make_interval(secs => $1)
         order by ends_at
         limit $2
      )
     returning id`,
    [ENDED_KEPT_SECONDS, REMOVED_AT_ONCE],
  )
  return rows.length
}
