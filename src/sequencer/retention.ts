import type { Database } from '../db/database.ts'
import {
  expireDeliveries,
  findExpiredPosition,
  purgeRemovedWebhooks,
  removeDeliveries,
  removeEvents,
  removeOrphanedDeliveries,
} from '../db/events/retention.ts'

const ROWS_PER_STEP_MAX = 1000
/** Steps of one run; the next run continues. */
const STEPS_MAX = 10_000

/** The result of one run: whether events were removed, and the number of deliveries that ended or were removed. */
export type Pruned = { readonly events: boolean; readonly deliveries: number }

/**
 * Removes events that are older than `days`, with their deliveries, and the rest of removed webhooks.
 * Pending deliveries of such events expire. Works in small steps, so that no lock is held for long;
 * an aborted signal ends it between two steps.
 */
export async function pruneEvents(
  db: Database,
  days: number,
  signal?: AbortSignal,
): Promise<Pruned> {
  let [deliveries, steps, events] = [0, 0, false]
  const canContinue = () => steps < STEPS_MAX && signal?.aborted !== true
  const repeat = async (step: () => Promise<number>): Promise<void> => {
    for (; canContinue(); steps += 1) {
      const count = await step()
      deliveries += count
      if (count === 0) return
    }
  }
  await repeat(() => removeOrphanedDeliveries(db, ROWS_PER_STEP_MAX))
  if (signal?.aborted !== true) await purgeRemovedWebhooks(db)
  for (; canContinue(); steps += 1) {
    const position = await findExpiredPosition(db, days)
    if (position === 0) break
    // Deliveries end first, so that none is sent whose event is removed.
    await repeat(() => expireDeliveries(db, position, ROWS_PER_STEP_MAX))
    await repeat(() => removeDeliveries(db, position, ROWS_PER_STEP_MAX))
    if (signal?.aborted === true) break
    await db.transaction((tx) => removeEvents(tx, position))
    events = true
  }
  return { events, deliveries }
}
