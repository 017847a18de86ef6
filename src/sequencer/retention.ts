import type { Database } from '../db/database.ts'
import {
  expireDeliveries,
  findExpiredPosition,
  purgeRemovedWebhooks,
  removeDeliveries,
  removeEvents,
  removeOrphanedDeliveries,
} from '../db/events/retention.ts'

const ROWS_AT_ONCE = 1000
/** Steps of one round; what is left comes in the next. */
const STEPS_MAX = 10_000

/** What one round forgot. */
export type Pruned = { readonly events: boolean; readonly deliveries: number }

/**
 * Forgets events that are older than `days`, with their deliveries, and what endpoints left behind that
 * were taken away: in small steps, so that nobody waits. Deliveries that still wait for such an event
 * are too late for it. `goOn` is asked between the steps.
 */
export async function pruneEvents(
  db: Database,
  days: number,
  goOn: () => boolean = () => true,
): Promise<Pruned> {
  let [deliveries, steps, events] = [0, 0, false]
  const repeat = async (step: () => Promise<number>): Promise<void> => {
    for (; steps < STEPS_MAX && goOn(); steps += 1) {
      const count = await step()
      deliveries += count
      if (count === 0) return
    }
  }
  await repeat(() => removeOrphanedDeliveries(db, ROWS_AT_ONCE))
  if (goOn()) await purgeRemovedWebhooks(db)
  for (; steps < STEPS_MAX && goOn(); steps += 1) {
    const position = await findExpiredPosition(db, days)
    if (position === 0) break
    // First they end, so that nobody sends one whose event goes.
    await repeat(() => expireDeliveries(db, position, ROWS_AT_ONCE))
    await repeat(() => removeDeliveries(db, position, ROWS_AT_ONCE))
    if (!goOn()) break
    await db.transaction((tx) => removeEvents(tx, position))
    events = true
  }
  return { events, deliveries }
}
