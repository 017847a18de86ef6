import type { EventType } from '../../events/event.ts'
import type { Glob } from '../../oci/glob.ts'
import { type Condition, given, withConditions } from '../conditions.ts'
import type { Queryable, Transaction } from '../database.ts'

/** The settings of a webhook. */
export type WebhookSettings = {
  readonly url: string
  readonly repositories: readonly Glob[]
  /** Null: events with any tag and without a tag. */
  readonly tags: readonly Glob[] | null
  readonly types: readonly EventType[]
  readonly format: string
  /** The template of the body as JSON; null: the event is sent. */
  readonly body: string | null
  readonly signatures: readonly string[]
  readonly oidcAudience: string | null
  readonly headers: Readonly<Record<string, string>>
  readonly description: string | null
  readonly maxAgeSeconds: number | null
  readonly coalesceTags: boolean
}

/** The columns of a webhook that an insert or update writes. */
export type WebhookColumns = WebhookSettings & {
  readonly secretsJwe: string
  readonly state: 'active' | 'paused' | 'disabled'
  /** A sentence for people; null unless the webhook is disabled. */
  readonly disabledReason: string | null
  readonly ownerName: string
  readonly ownerOrigin: string | null
  /** `Grant[]` of `auth`; null: everything. */
  readonly ownerGrants: unknown
}

/** A webhook as each process caches it. */
export type CachedWebhookRow = Omit<
  WebhookColumns,
  'description' | 'disabledReason' | 'ownerName'
> & {
  readonly id: number
  readonly name: string
  /** A UUID: the subject of its identity tokens. */
  readonly identity: string
}

/** A webhook with its health. */
export type WebhookRow = CachedWebhookRow &
  WebhookColumns & {
    readonly createdAt: Date
    readonly updatedAt: Date
    /** Consecutive failed attempts. */
    readonly failures: number
    readonly failingSince: Date | null
    readonly openUntil: Date | null
    readonly succeededAt: Date | null
    readonly failedAt: Date | null
    /** Pending deliveries, counted up to PENDING_COUNTED_MAX. */
    readonly waiting: number
  }

/** The count of pending deliveries ends here, because a list counts those of every webhook on the page. */
export const PENDING_COUNTED_MAX = 100

const WRITTEN_COLUMNS = `url, repositories, tags, types, format, body, signatures, oidc_audience, headers,
  description, max_age_seconds, coalesce_tags, secrets_jwe, state, disabled_reason, owner_name,
  owner_origin, owner_grants`

const CACHED_COLUMNS = `w.id, w.name, w.identity, w.url, w.repositories, w.tags, w.types, w.format, w.body, w.signatures,
  w.oidc_audience as "oidcAudience", w.headers, w.max_age_seconds as "maxAgeSeconds",
  w.coalesce_tags as "coalesceTags", w.secrets_jwe as "secretsJwe", w.state,
  w.owner_origin as "ownerOrigin", w.owner_grants as "ownerGrants"`

/** Inserts a webhook. Returns false when the name is in use. */
export async function addWebhook(
  tx: Transaction,
  name: string,
  webhook: WebhookColumns,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `insert into webhooks (name, ${WRITTEN_COLUMNS})
     select $1, ${WRITTEN_COLUMNS}
       from json_populate_record(null::webhooks, $2)
         on conflict (name) where removed_at is null do nothing
     returning id`,
    [name, columnsJson(webhook)],
  )
  return rows.length > 0
}

/** Overwrites all columns of a locked webhook. */
export async function updateWebhook(
  tx: Transaction,
  id: number,
  webhook: WebhookColumns,
): Promise<void> {
  await tx.query(
    `update webhooks
        set (${WRITTEN_COLUMNS}, updated_at) = (
              select ${WRITTEN_COLUMNS}, now()
                from json_populate_record(null::webhooks, $2)
            )
      where id = $1`,
    [id, columnsJson(webhook)],
  )
}

/** The values by column name, for json_populate_record. */
function columnsJson(webhook: WebhookColumns): string {
  return JSON.stringify({
    url: webhook.url,
    repositories: webhook.repositories,
    tags: webhook.tags,
    types: webhook.types,
    format: webhook.format,
    body: webhook.body,
    signatures: webhook.signatures,
    oidc_audience: webhook.oidcAudience,
    headers: webhook.headers,
    description: webhook.description,
    max_age_seconds: webhook.maxAgeSeconds,
    coalesce_tags: webhook.coalesceTags,
    secrets_jwe: webhook.secretsJwe,
    state: webhook.state,
    disabled_reason: webhook.disabledReason,
    owner_name: webhook.ownerName,
    owner_origin: webhook.ownerOrigin,
    owner_grants: webhook.ownerGrants,
  })
}

/** Locks a webhook by name until the transaction ends. Returns its id. */
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

/** Finds a webhook by name. */
export async function findWebhook(db: Queryable, name: string): Promise<WebhookRow | undefined> {
  return (await selectWebhooks(db, given('and w.name = $', name), 1))[0]
}

/** Lists webhooks whose names sort after `last`, ordered by name. */
export function listWebhooks(db: Queryable, last: string, limit: number): Promise<WebhookRow[]> {
  return selectWebhooks(db, given('and w.name > $', last), limit)
}

/** Lists webhooks with these names, ordered by name. */
export function listNamedWebhooks(db: Queryable, names: readonly string[]): Promise<WebhookRow[]> {
  return selectWebhooks(db, given('and w.name = any($::text[])', names), names.length)
}

/** A webhook, with the settings that decide who may manage it. */
export type WebhookScope = Pick<WebhookRow, 'name' | 'repositories' | 'types'>

/** Lists the scopes of webhooks whose names sort after `last`, ordered by name. */
export async function listWebhookScopes(
  db: Queryable,
  last: string,
  limit: number,
): Promise<WebhookScope[]> {
  const { rows } = await db.query<WebhookScope>(
    `select name, repositories, types
       from webhooks
      where name > $1
        and removed_at is null
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

async function selectWebhooks(
  db: Queryable,
  named: Condition[],
  limit: number,
): Promise<WebhookRow[]> {
  const { rows } = await db.query<WebhookRow>(
    ...withConditions(
      `select ${CACHED_COLUMNS}, w.description, w.disabled_reason as "disabledReason",
              w.owner_name as "ownerName", w.created_at as "createdAt",
              w.updated_at as "updatedAt", coalesce(h.failures, 0) as failures,
              h.failing_since as "failingSince", h.open_until as "openUntil",
              h.succeeded_at as "succeededAt", h.failed_at as "failedAt", p.waiting
         from (
           select *
             from webhooks w
            where w.removed_at is null
              {named}
            order by w.name
            limit $1
         ) w
         left join webhook_health h on h.webhook_id = w.id
        cross join lateral (
              select count(*) as waiting
                from (select 1
                        from deliveries d
                       where d.webhook_id = w.id
                         and d.state = 'pending'
                       limit ${PENDING_COUNTED_MAX}) as counted
              ) as p
        order by w.name`,
      [limit],
      { named },
    ),
  )
  return rows
}

/** Lists all webhooks, for the cache of a process. */
export async function listAllWebhooks(db: Queryable): Promise<CachedWebhookRow[]> {
  const { rows } = await db.query<CachedWebhookRow>(
    `select ${CACHED_COLUMNS}
       from webhooks w
      where w.removed_at is null`,
  )
  return rows
}

/** Reads how often webhooks changed. The cache of a process is current while this number stays the same. */
export async function readWebhookChangeCount(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>('select count from webhook_changes')
  return rows[0]?.count ?? 0
}

/** Invalidates the caches of all processes when the transaction commits. */
export async function incrementWebhookChangeCount(tx: Transaction): Promise<void> {
  await tx.query('update webhook_changes set count = count + 1')
}

/** Counts all webhooks, and those that this origin owns. */
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

/** Gives a locked webhook another identity, because its identity tokens go to another server now. */
export async function renewWebhookIdentity(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `update webhooks
        set identity = gen_random_uuid()
      where id = $1`,
    [id],
  )
}

/** Disables a webhook until a user resumes it. Returns false when it is disabled already. */
export async function disableWebhook(
  tx: Transaction,
  webhookId: number,
  reason: string,
): Promise<boolean> {
  const { rows } = await tx.query<{ id: number }>(
    `update webhooks
        set state = 'disabled',
            disabled_reason = $2,
            updated_at = now()
      where id = $1
        and state <> 'disabled'
        and removed_at is null
     returning id`,
    [webhookId, reason],
  )
  return rows.length > 0
}

/** Marks a webhook as removed: nothing more is sent, and its name can be used again. */
export async function removeWebhook(tx: Transaction, id: number): Promise<void> {
  await tx.query(
    `update webhooks
        set removed_at = now()
      where id = $1`,
    [id],
  )
}
