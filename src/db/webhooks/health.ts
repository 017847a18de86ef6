import type { Queryable, Transaction } from '../database.ts'

/** How often an endpoint failed just now. */
export type WebhookFailures = { readonly webhookId: number; readonly failures: number }

/** An endpoint that fails. */
export type FailingWebhookRow = {
  readonly webhookId: number
  /** In a row, with those that were just noted. */
  readonly failures: number
  readonly failingSince: Date
}

export type FailureLimits = {
  /** After so many failures in a row it is left alone. */
  readonly failuresMax: number
  /** As long as it has failed already, but no shorter and no longer than this. */
  readonly seconds: number
  readonly secondsMax: number
  /** By how much that is made longer, so that not all come back at once: from 0 to 1. */
  readonly jitter: number
}

/**
 * Notes that endpoints failed, and until when they are left alone. Deliveries that were under way
 * together fail together, so the time doubles with the time and not with each failure.
 */
export async function recordFailures(
  db: Queryable,
  failing: readonly WebhookFailures[],
  { failuresMax, seconds, secondsMax, jitter }: FailureLimits,
): Promise<FailingWebhookRow[]> {
  const { rows } = await db.query<FailingWebhookRow>(
    `insert into webhook_health as h (webhook_id, failures, failing_since, failed_at, open_until)
     select w.id, f.failures, now(), now(),
            case when f.failures >= $3
                 then now() + make_interval(secs => $4::float8 * (1 + $6::float8)) end
       from unnest($1::bigint[], $2::int[]) as f (webhook_id, failures)
       join webhooks w on w.id = f.webhook_id
      order by w.id
         on conflict (webhook_id) do update
        set failures = h.failures + excluded.failures,
            failing_since = coalesce(h.failing_since, now()),
            failed_at = now(),
            open_until = case when h.failures + excluded.failures >= $3
                              then now() + make_interval(secs => (1 + $6::float8) * least(
                                     $5::float8,
                                     greatest($4::float8,
                                              extract(epoch from now() - h.failing_since)::float8)
                                   )) end
     returning webhook_id as "webhookId", failures, failing_since as "failingSince"`,
    [
      failing.map(({ webhookId }) => webhookId),
      failing.map(({ failures }) => failures),
      failuresMax,
      seconds,
      secondsMax,
      jitter,
    ],
  )
  return rows
}

/** Notes that endpoints took what they were sent: from now on they get everything. */
export async function recordSuccesses(db: Queryable, webhookIds: readonly number[]): Promise<void> {
  await db.query(
    `insert into webhook_health (webhook_id, succeeded_at)
     select id, now()
       from webhooks
      where id = any($1::bigint[])
      order by id
         on conflict (webhook_id) do update
        set failures = 0,
            failing_since = null,
            open_until = null,
            succeeded_at = now()`,
    [webhookIds],
  )
}

/** Sends nothing to an endpoint any more, until somebody says so. False when it was so already. */
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
