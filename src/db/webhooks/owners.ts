import type { Queryable } from '../database.ts'

/**
 * Lists which of these origins, such as `credential:7` or `policy:3`, are active: credentials that are
 * neither revoked nor expired, trust policies that exist, and `token:<jti>` that were not revoked.
 */
export async function listActiveOrigins(
  db: Queryable,
  origins: readonly string[],
): Promise<string[]> {
  const { rows } = await db.query<{ origin: string }>(
    `select o.origin
       from unnest($1::text[]) as o (origin)
       left join credentials c on c.id = substring(o.origin from '^credential:([0-9]{1,18})$')::bigint
                          and c.revoked_at is null
                          and (c.expires_at is null or c.expires_at > now())
       left join trust_policies p on p.id = substring(o.origin from '^policy:([0-9]{1,18})$')::bigint
      where c.id is not null
         or p.id is not null
         or (o.origin like 'token:%' and not exists (
              select 1
                from revocations r
               where r.subject = o.origin
            ))`,
    [origins],
  )
  return rows.map(({ origin }) => origin)
}
