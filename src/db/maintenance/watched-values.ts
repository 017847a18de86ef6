import type { Queryable } from '../database.ts'

/** Queues, hosts and deployments as operators watch them. Ages are in seconds, 0 when there is nothing. */
export type WatchedValues = {
  /** Events without a position, and the age of the oldest. */
  readonly outboxEvents: number
  readonly outboxSeconds: number
  /** Deliveries of active webhooks that wait for an attempt, and the age of the oldest. */
  readonly pendingDeliveries: number
  readonly deliverySeconds: number
  /** For how long the delivery that is due for longest is due. Receivers that failed often do not count. */
  readonly deliveryOverdueSeconds: number
  readonly activeWebhooks: number
  readonly pausedWebhooks: number
  readonly disabledWebhooks: number
  /** Active webhooks whose last attempt failed. */
  readonly failingWebhooks: number
  /** Blobs and uploads whose bytes wait for their deletion. */
  readonly queuedDeletions: number
  readonly rollingDeployments: number
  readonly pausedDeployments: number
  /** Age of the oldest rolling deployment. */
  readonly rollingSeconds: number
  /** For how long the open deployment that is due for longest waits for its next step. */
  readonly deploymentOverdueSeconds: number
  /** Units of open deployments that did not conclude before their deadline. */
  readonly overdueTargets: number
  readonly onlineHosts: number
  readonly offlineHosts: number
  readonly pendingHosts: number
  /** When the signing key became active, as Unix time. */
  readonly signingKeySince: number | null
  /** When the snapshot of the last complete backup was taken, as Unix time, and the bytes of its blobs; null: there is none. */
  readonly backupAt: number | null
  readonly backupBytes: number | null
  /** Credentials that expire within `EXPIRING_DAYS`. */
  readonly expiringCredentials: number
  /** The last result of the job that measures the store; null before the first one. */
  readonly storage: unknown
}

/** Rows of each kind that are counted at most, so that the cost of the statement has a bound. */
export const COUNTED_MAX = 10_000
/** Credentials are found by their expiry, and each is looked at. */
const EXPIRING_COUNTED_MAX = 100
const EXPIRING_DAYS = 14

/** Reads all values in one statement of bounded cost. `storageJob` is the name of the job that measures the store. */
export async function readWatchedValues(db: Queryable, storageJob: string): Promise<WatchedValues> {
  // From one webhook with pending deliveries to the next in the index, as `listDueWebhooks` does.
  const { rows } = await db.query<WatchedValues>(
    `with recursive waiting as (
       (select webhook_id
          from deliveries
         where state = 'pending'
         order by webhook_id
         limit 1)
       union all
       select n.webhook_id
         from waiting w
        cross join lateral (
              select webhook_id
                from deliveries
               where state = 'pending'
                 and webhook_id > w.webhook_id
               order by webhook_id
               limit 1
              ) n
     ), pending as materialized (
       select d.since, d.due_at, h.open_until is null as is_closed
         from (select webhook_id from waiting limit ${COUNTED_MAX}) q
         join webhooks w on w.id = q.webhook_id
         left join webhook_health h on h.webhook_id = w.id
        cross join lateral (
              select coalesce(redelivered_at, created_at) as since, due_at
                from deliveries
               where webhook_id = w.id
                 and state = 'pending'
               order by due_at
               limit ${COUNTED_MAX}
              ) d
        where w.state = 'active'
          and w.removed_at is null
        limit ${COUNTED_MAX}
     ), deliveries_seen as (
       select count(*) as count, min(since) as since,
              min(due_at) filter (where is_closed) as due_at
         from pending
     ), webhooks_seen as (
       select count(*) filter (where state = 'active') as active,
              count(*) filter (where state = 'paused') as paused,
              count(*) filter (where state = 'disabled') as disabled,
              count(*) filter (where state = 'active' and failing_since is not null) as failing
         from (
           select w.state, h.failing_since
             from webhooks w
             left join webhook_health h on h.webhook_id = w.id
            where w.removed_at is null
            limit ${COUNTED_MAX}
         ) w
     ), open_deployments as materialized (
       select id, state, created_at, wake_at
         from deployments
        where finished_at is null
        limit ${COUNTED_MAX}
     ), deployments_seen as (
       select count(*) filter (where state = 'rolling') as rolling,
              count(*) filter (where state = 'paused') as paused,
              min(created_at) filter (where state = 'rolling') as since,
              min(wake_at) as wake_at
         from open_deployments
     )
     select (select count(*) from (select 1 from event_outbox limit ${COUNTED_MAX}) o) as "outboxEvents",
            coalesce((
              select extract(epoch from clock_timestamp() - occurred_at)
                from event_outbox
               order by id
               limit 1
            ), 0)::float8 as "outboxSeconds",
            d.count as "pendingDeliveries",
            coalesce(extract(epoch from now() - d.since), 0)::float8 as "deliverySeconds",
            greatest(extract(epoch from now() - d.due_at), 0)::float8 as "deliveryOverdueSeconds",
            w.active as "activeWebhooks", w.paused as "pausedWebhooks", w.disabled as "disabledWebhooks",
            w.failing as "failingWebhooks",
            (select count(*) from (select 1 from deletion_queue limit ${COUNTED_MAX}) q) as "queuedDeletions",
            p.rolling as "rollingDeployments", p.paused as "pausedDeployments",
            coalesce(extract(epoch from now() - p.since), 0)::float8 as "rollingSeconds",
            case when p.wake_at < now() then extract(epoch from now() - p.wake_at) else 0 end::float8
              as "deploymentOverdueSeconds",
            (
              select count(*)
                from (
                  select 1
                    from open_deployments o
                    join targets t on t.deployment_id = o.id and t.state = 'overdue'
                   limit ${COUNTED_MAX}
                ) t
            ) as "overdueTargets",
            (
              select count(*)
                from (
                  select 1
                    from hosts
                   where state = 'active'
                     and lost_at is null
                     and seen_at is not null
                   limit ${COUNTED_MAX}
                ) h
            ) as "onlineHosts",
            (
              select count(*)
                from (
                  select 1
                    from hosts
                   where state = 'active'
                     and lost_at is not null
                   limit ${COUNTED_MAX}
                ) h
            ) as "offlineHosts",
            (
              select count(*)
                from (
                  select 1
                    from hosts
                   where state = 'pending'
                     and expires_at > now()
                   limit ${COUNTED_MAX}
                ) h
            ) as "pendingHosts",
            (
              select extract(epoch from max(active_at))
                from signing_keys
               where active_at <= now()
                 and (retired_at is null or retired_at > now())
            )::float8 as "signingKeySince",
            (
              select count(*)
                from (
                  select 1
                    from credentials
                   where expires_at > now()
                     and expires_at <= now() + make_interval(days => ${EXPIRING_DAYS})
                     and revoked_at is null
                     and kind <> 'host'
                   limit ${EXPIRING_COUNTED_MAX}
                ) c
            ) as "expiringCredentials",
            (select extract(epoch from taken_at) from last_backup)::float8 as "backupAt",
            (select bytes from last_backup) as "backupBytes",
            (
              select progress
                from maintenance
               where name = $1
            ) as storage
       from deliveries_seen d, webhooks_seen w, deployments_seen p`,
    [storageJob],
  )
  const [row] = rows
  if (row === undefined) throw new Error('the values have no row')
  return row
}
