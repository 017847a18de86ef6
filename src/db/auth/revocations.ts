import { given, withConditions } from '../conditions.ts'
import type { Queryable } from '../database.ts'

/** Adds a revocation, or extends the one of this subject. */
export async function addRevocation(
  db: Queryable,
  subject: string,
  keepSeconds: number,
): Promise<void> {
  await db.query(
    `insert into revocations (subject, expires_at)
     values ($1, now() + make_interval(secs => $2))
         on conflict (subject) do update
        set revoked_at = now(),
            expires_at = greatest(revocations.expires_at, excluded.expires_at)`,
    [subject, keepSeconds],
  )
}

export type RevocationRow = { readonly subject: string; readonly expiresAt: Date }

/** Lists the revocations of the last `sinceSeconds`, or all of them. */
export async function listRevocations(
  db: Queryable,
  sinceSeconds: number | undefined,
): Promise<RevocationRow[]> {
  const { rows } = await db.query<RevocationRow>(
    ...withConditions(
      `select subject, expires_at as "expiresAt"
         from revocations
        where expires_at > now()
          {recent}`,
      [],
      { recent: given('and revoked_at > now() - make_interval(secs => $)', sinceSeconds) },
    ),
  )
  return rows
}

const REMOVED_AT_ONCE = 1000

/** Removes expired revocations, at most 1000, except of tokens that still own a webhook. Returns how many were removed. */
export async function removeExpiredRevocations(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    `delete from revocations
      where id in (
        select id
          from revocations
         where expires_at < now()
           and not exists (
             select 1
               from webhooks w
              where w.owner_origin = revocations.subject
                and w.removed_at is null
           )
         limit $1
      )
     returning id`,
    [REMOVED_AT_ONCE],
  )
  return rows.length
}
