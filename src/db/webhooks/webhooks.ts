import type { EventType } from '../../events/event.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Queryable, Transaction } from '../database.ts'

/** What whoever writes an endpoint says of it. */
export type WebhookSettings = {
  readonly url: string
  readonly repositories: readonly Glob[]
  /** Null: also what is about no tag. */
  readonly tags: readonly Glob[] | null
  readonly types: readonly EventType[]
  readonly format: string
  readonly signatures: readonly string[]
  readonly oidcAudience: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly description: string | null
  readonly maxAgeSeconds: number | null
  readonly coalesceTags: boolean
}

/** An endpoint with its state and its owner: all that is written. */
export type WebhookColumns = WebhookSettings & {
  readonly secretsJwe: string
  readonly state: 'active' | 'paused' | 'disabled'
  /** In words; null unless it is disabled. */
  readonly disabledReason: string | null
  readonly ownerName: string
  readonly ownerOrigin: string | null
  /** As `Grant` of `auth` has them; null: everything. */
  readonly ownerGrants: unknown
}

/** An endpoint, and how it fares. */
export type WebhookRow = WebhookColumns & {
  readonly id: number
  readonly name: string
  readonly createdAt: Date
  readonly updatedAt: Date
  /** Tries that failed, one after the other. */
  readonly failures: number
  readonly failingSince: Date | null
  readonly openUntil: Date | null
  readonly succeededAt: Date | null
  readonly failedAt: Date | null
  /** Deliveries that wait, counted as far as WAITING_COUNTED_MAX. */
  readonly waiting: number
}

/** As many deliveries that wait are counted; a list counts those of each of its endpoints. */
export const WAITING_COUNTED_MAX = 100

/** Writes a new one. False when there is one of that name. */
export async function addWebhook(
  tx: Transaction,
  name: string,
  webhook: WebhookColumns,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `insert into webhooks
            (name, url, repositories, tags, types, format, signatures, oidc_audience, headers,
             description, max_age_seconds, coalesce_tags, secrets_jwe, state, disabled_reason,
             owner_name, owner_origin, owner_grants)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         on conflict (name) where removed_at is null do nothing
     returning id`,
    [name, ...columnsOf(webhook)],
  )
  return rows.length > 0
}

/** Writes everything of one that is locked. */
export async function updateWebhook(
  tx: Transaction,
  id: number,
  webhook: WebhookColumns,
): Promise<void> {
  await tx.query(
    `update webhooks
        set url = $2,
            repositories = $3,
            tags = $4,
            types = $5,
            format = $6,
            signatures = $7,
            oidc_audience = $8,
            headers = $9,
            description = $10,
            max_age_seconds = $11,
            coalesce_tags = $12,
            secrets_jwe = $13,
            state = $14,
            disabled_reason = $15,
            owner_name = $16,
            owner_origin = $17,
            owner_grants = $18,
            updated_at = now()
      where id = $1`,
    [id, ...columnsOf(webhook)],
  )
}

function columnsOf(webhook: WebhookColumns): unknown[] {
  const { ownerGrants } = webhook
  return [
    webhook.url,
    webhook.repositories,
    webhook.tags,
    webhook.types,
    webhook.format,
    webhook.signatures,
    webhook.oidcAudience,
    JSON.stringify(webhook.headers),
    webhook.description,
    webhook.maxAgeSeconds,
    webhook.coalesceTags,
    webhook.secretsJwe,
    webhook.state,
    webhook.disabledReason,
    webhook.ownerName,
    webhook.ownerOrigin,
    ownerGrants === null ? null : JSON.stringify(ownerGrants),
  ]
}

/** Holds the one of that name until the transaction ends. Undefined when there is none. */
export async function lockWebhook(tx: Transaction, name: string): Promise<number | undefined> {
  const { rows } = await tx.query<{ id: number }>(
    `select id
       from webhooks
      where name = $1
        and removed_at is null
        for update`,
    [name],
  )
  return rows[0]?.id
}

/** The one of that name. */
export async function findWebhook(db: Queryable, name: string): Promise<WebhookRow | undefined> {
  return (await selectWebhooks(db, name, null, 1))[0]
}

/** Those after `last`, in the order of names. */
export function listWebhooks(db: Queryable, last: string, limit: number): Promise<WebhookRow[]> {
  return selectWebhooks(db, null, last, limit)
}

async function selectWebhooks(
  db: Queryable,
  name: string | null,
  after: string | null,
  limit: number,
): Promise<WebhookRow[]> {
  const { rows } = await db.query<WebhookRow>(
    `select w.id, w.name, w.url, w.repositories, w.tags, w.types, w.format, w.signatures,
            w.oidc_audience as "oidcAudience", w.headers, w.description,
            w.max_age_seconds as "maxAgeSeconds", w.coalesce_tags as "coalesceTags",
            w.secrets_jwe as "secretsJwe", w.state, w.disabled_reason as "disabledReason",
            w.owner_name as "ownerName", w.owner_origin as "ownerOrigin",
            w.owner_grants as "ownerGrants", w.created_at as "createdAt",
            w.updated_at as "updatedAt", coalesce(h.failures, 0) as failures,
            h.failing_since as "failingSince", h.open_until as "openUntil",
            h.succeeded_at as "succeededAt", h.failed_at as "failedAt", p.waiting
       from webhooks w
       left join webhook_health h on h.webhook_id = w.id
      cross join lateral (
            select count(*) as waiting
              from (select 1
                      from deliveries d
                     where d.webhook_id = w.id
                       and d.state = 'pending'
                     limit $4) as counted
            ) as p
      where ($1::text is null or w.name = $1)
        and ($2::text is null or w.name > $2)
        and w.removed_at is null
      order by w.name
      limit $3`,
    [name, after, limit, WAITING_COUNTED_MAX],
  )
  return rows
}

/** How many there are, and how many of them this origin owns. */
export async function countWebhooks(
  db: Queryable,
  ownerOrigin: string | null,
): Promise<{ all: number; owned: number }> {
  const { rows } = await db.query<{ all: number; owned: number }>(
    `select count(*) as all,
            count(*) filter (where owner_origin is not distinct from $1
                               and owner_grants is not null) as owned
       from webhooks
      where removed_at is null`,
    [ownerOrigin],
  )
  return rows[0] ?? { all: 0, owned: 0 }
}

/** Takes it away: nothing is sent any more, and its name is free. */
export async function removeWebhook(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `update webhooks
        set removed_at = now()
      where id = $1`,
    [id],
  )
}

/** Forgets that it failed: it is somewhere else now, or somebody mended it. */
export async function clearWebhookFailures(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `update webhook_health
        set failures = 0,
            failing_since = null,
            open_until = null
      where webhook_id = $1`,
    [id],
  )
}
