import type { Queryable, Transaction } from '../database.ts'

/** New failures of one webhook. */
export type WebhookFailures = { readonly webhookId: number; readonly failures: number }

/** A failing webhook. */
export type FailingWebhookRow = {
  readonly webhookId: number
  /** Consecutive failures, including the new ones. */
  readonly failures: number
  readonly failingSince: Date
}

export type FailureLimits = {
  /** Consecutive failures that open the circuit: nothing is sent until it closes. */
  readonly failuresMax: number
  /** The circuit stays open as long as the webhook has failed already, within these bounds. */
  readonly openSecondsMin: number
  readonly openSecondsMax: number
  /** The fraction, from 0 to 1, that is added so that webhooks do not come back all at once. */
  readonly jitter: number
}

/**
 * Records failures, and until when the circuit of each webhook stays open. Concurrent deliveries fail
 * together, so that time doubles with the time since the first failure and not with each failure.
 */
export async function recordFailures(
  db: Queryable,
  failing: readonly WebhookFailures[],
  { failuresMax, openSecondsMin, openSecondsMax, jitter }: FailureLimits,
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
      openSecondsMin,
      openSecondsMax,
      jitter,
    ],
  )
  return rows
}

/** Records successes, and closes the circuits of these webhooks. */
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

/** Clears the failures of a webhook and closes its circuit. */
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
