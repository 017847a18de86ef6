import type { Queryable, Transaction } from '../database.ts'

/** New failures of one webhook. */
export type WebhookFailures = {
  readonly webhookId: number
  readonly failures: number
  /** The longest wait that its receiver requests. */
  readonly retryAfterSeconds: number
}

/** Nothing opens a circuit for longer. An end that is further away was written by a clock that was ahead. */
export const OPEN_SECONDS_MAX = 600

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
  /** Time for which the circuit stays open before the next attempt. */
  readonly openSeconds: number
  /** The fraction, from 0 to 1, that is subtracted so that webhooks do not come back all at once. */
  readonly jitter: number
}

/**
 * Records failures, and until when the circuit of each webhook stays open: always for the same short time, so that a
 * receiver that is back is noticed soon, or for as long as the receiver requests, up to `OPEN_SECONDS_MAX`.
 */
export async function recordFailures(
  db: Queryable,
  failing: readonly WebhookFailures[],
  { failuresMax, openSeconds, jitter }: FailureLimits,
): Promise<FailingWebhookRow[]> {
  const { rows } = await db.query<FailingWebhookRow>(
    `insert into webhook_health as h (webhook_id, failures, failing_since, failed_at, open_until)
     select w.id, f.failures, now(), now(),
            case when f.failures >= $4
                 then now() + make_interval(secs => greatest($5::float8, least($6::float8, f.retry_after))) end
       from unnest($1::bigint[], $2::int[], $3::float8[]) as f (webhook_id, failures, retry_after)
       join webhooks w on w.id = f.webhook_id
      order by w.id
         on conflict (webhook_id) do update
        set failures = h.failures + excluded.failures,
            failing_since = coalesce(h.failing_since, now()),
            failed_at = now(),
            open_until = case when h.failures + excluded.failures >= $4
                              then now() + make_interval(secs => greatest($5::float8, (
                                     select least($6::float8, r.retry_after)
                                       from unnest($1::bigint[], $3::float8[]) as r (webhook_id, retry_after)
                                      where r.webhook_id = h.webhook_id
                                   ))) end
     returning webhook_id as "webhookId", failures, failing_since as "failingSince"`,
    [
      failing.map(({ webhookId }) => webhookId),
      failing.map(({ failures }) => failures),
      failing.map(({ retryAfterSeconds }) => retryAfterSeconds),
      failuresMax,
      openSeconds * (1 - jitter),
      OPEN_SECONDS_MAX,
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

/** Lets the next delivery of a failing webhook be attempted now, because the claimed one needed no request. */
export async function endProbe(db: Queryable, webhookId: number): Promise<void> {
  await db.query(
    `update webhook_health
        set open_until = now()
      where webhook_id = $1
        and open_until > now()`,
    [webhookId],
  )
}
