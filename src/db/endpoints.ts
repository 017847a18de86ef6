import type { EventType } from '../events/event.ts'
import type { Glob } from '../oci/glob.ts'
import type { Queryable } from './database.ts'

/** An endpoint as it is told; how it fares is in `webhook_health`. */
export type CachedWebhookRow = {
  readonly id: number
  readonly name: string
  readonly url: string
  readonly repositories: readonly Glob[]
  readonly tags: readonly Glob[] | null
  readonly types: readonly EventType[]
  readonly format: string
  readonly signatures: readonly string[]
  readonly oidcAudience: string | null
  readonly secretsJwe: string
  readonly headers: Readonly<Record<string, string>>
  readonly maxAgeSeconds: number | null
  readonly coalesceTags: boolean
  readonly state: 'active' | 'paused' | 'disabled'
  readonly ownerOrigin: string | null
  /** As `Grant` of `auth` has them. */
  readonly ownerGrants: unknown
}

/** How often endpoints were changed: the same number means that nothing was. */
export async function readWebhookChangeCount(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>('select count from webhook_changes')
  return rows[0]?.count ?? 0
}

/** Every endpoint that was not removed. */
export async function listAllWebhooks(db: Queryable): Promise<CachedWebhookRow[]> {
  const { rows } = await db.query<CachedWebhookRow>(
    `select id, name, url, repositories, tags, types, format, signatures,
            oidc_audience as "oidcAudience", secrets_jwe as "secretsJwe", headers,
            max_age_seconds as "maxAgeSeconds", coalesce_tags as "coalesceTags", state,
            owner_origin as "ownerOrigin", owner_grants as "ownerGrants"
       from webhooks
      where removed_at is null`,
  )
  return rows
}

/** Counts up what `countEndpointChanges` answers; in the transaction of the change. */
export async function incrementWebhookChangeCount(tx: Queryable): Promise<void> {
  await tx.query('update webhook_changes set count = count + 1')
}

/**
 * Which of these origins, such as `credential:7` or `policy:3`, still stand: a credential that was
 * neither revoked nor has expired, a trust policy that is still there.
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
         or p.id is not null`,
    [origins],
  )
  return rows.map(({ origin }) => origin)
}
