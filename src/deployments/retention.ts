import type { Queryable } from '../db/database.ts'
import {
  listExpiredDeployments,
  removeDeployments,
  removeTargets,
} from '../db/deployments/deployment-retention.ts'

/** How often old deployments are removed. */
export const RETENTION_SECONDS = 3600
/** The newest deployments of each tag are kept at any age. */
export const KEPT_PER_TAG = 100
const DEPLOYMENTS_PER_STEP_MAX = 100
const TARGETS_PER_STEP_MAX = 5_000
/** Steps of one run; the next run continues. */
const STEPS_MAX = 10_000

/**
 * Removes deployments that ended more than `days` ago, with their targets, but keeps the newest of each tag. Works in small
 * steps, so that no lock is held for long; an aborted signal ends it between two steps. Returns how many it removed.
 */
export async function pruneDeployments(
  db: Queryable,
  days: number,
  signal?: AbortSignal,
  kept = KEPT_PER_TAG,
): Promise<number> {
  let removed = 0
  let steps = 0
  const canContinue = () => steps < STEPS_MAX && signal?.aborted !== true
  while (canContinue()) {
    const ids = await listExpiredDeployments(db, days, kept, DEPLOYMENTS_PER_STEP_MAX)
    if (ids.length === 0) break
    for (let left = 1; left > 0 && canContinue(); steps += 1) {
      left = await removeTargets(db, ids, TARGETS_PER_STEP_MAX)
    }
    if (!canContinue()) break
    await removeDeployments(db, ids)
    removed += ids.length
    steps += 1
  }
  return removed
}
