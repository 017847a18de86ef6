import type { Queryable } from '../db/database.ts'
import { removeOldUnitLogs } from '../db/deployments/unit-logs.ts'

/** Entries that one statement removes. */
const REMOVED_AT_ONCE = 1_000
const ROUNDS_MAX = 10_000

/** Removes the lines of kernels that are older than `days` days. */
export async function pruneUnitLogs(
  db: Queryable,
  days: number,
  signal: AbortSignal,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX && !signal.aborted; round += 1) {
    if ((await removeOldUnitLogs(db, days, REMOVED_AT_ONCE)) < REMOVED_AT_ONCE) return
  }
}
