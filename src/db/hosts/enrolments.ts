import type { Queryable, Transaction } from '../database.ts'

/** The host that a code makes. */
export type NewEnrolment = {
  readonly name: string
  readonly repositories: readonly string[]
  /** Null: from anywhere. */
  readonly networks: readonly string[] | null
  readonly labels: Readonly<Record<string, string>>
  /** The actor that made the code. */
  readonly createdBy: string
  readonly origin: string | null
  readonly tokenId: string | null
  readonly keyId: string | null
}

/** Adds a code that lives for `seconds`, and never longer than the credential it came from. Returns its end. */
export async function addEnrolment(
  tx: Transaction,
  enrolment: NewEnrolment,
  codeSha256: Buffer,
  seconds: number,
): Promise<Date> {
  const { rows } = await tx.query<{ expiresAt: Date }>(
    `insert into enrolments
            (code_sha256, name, repositories, networks, labels, created_by, origin, token_id, key_id, expires_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, least(
              now() + make_interval(secs => $10),
              (select expires_at from credentials where 'credential:' || id = $7)
            ))
     returning expires_at as "expiresAt"`,
    [
      codeSha256,
      enrolment.name,
      enrolment.repositories,
      enrolment.networks,
      enrolment.labels,
      enrolment.createdBy,
      enrolment.origin,
      enrolment.tokenId,
      enrolment.keyId,
      seconds,
    ],
  )
  const row = rows[0]
  if (row === undefined) throw new Error('an insert of one row returned none')
  return row.expiresAt
}

export type EnrolmentRow = NewEnrolment & {
  readonly expiresAt: Date
  readonly isExpired: boolean
  readonly usedAt: Date | null
}

/** Returns the enrolment whose code has this hash, also when it is used or expired. */
export async function findEnrolment(
  db: Queryable,
  codeSha256: Buffer,
): Promise<EnrolmentRow | undefined> {
  const { rows } = await db.query<EnrolmentRow>(
    `select name, repositories, networks, labels, created_by as "createdBy", origin,
            token_id as "tokenId", key_id as "keyId", expires_at as "expiresAt",
            expires_at <= now() as "isExpired", used_at as "usedAt"
       from enrolments
      where code_sha256 = $1`,
    [codeSha256],
  )
  return rows[0]
}

/** Marks a code used. When two calls are concurrent, the second waits for the first and returns false. */
export async function markEnrolmentUsed(tx: Transaction, codeSha256: Buffer): Promise<boolean> {
  const { rows } = await tx.query<{ name: string }>(
    `update enrolments
        set used_at = now()
      where code_sha256 = $1
        and used_at is null
        and expires_at > now()
     returning name`,
    [codeSha256],
  )
  return rows.length > 0
}

/** Codes are kept for this time after their end, so that a late host learns the reason. */
const KEPT_SECONDS = 86_400
const REMOVED_AT_ONCE = 1000

/** Removes codes that expired a day ago, at most 1000. Returns how many were removed. */
export async function removeExpiredEnrolments(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ name: string }>(
    `delete from enrolments
      where code_sha256 in (
        select code_sha256
          from enrolments
         where expires_at < now() - make_interval(secs => $1)
         order by expires_at
         limit $2
      )
     returning name`,
    [KEPT_SECONDS, REMOVED_AT_ONCE],
  )
  return rows.length
}
