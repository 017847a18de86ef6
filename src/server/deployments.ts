import { Loop } from '../async/loop.ts'
import type { Database } from '../db/database.ts'
import { DeploymentController } from '../deployments/controller.ts'
import { pruneDeployments, RETENTION_SECONDS } from '../deployments/retention.ts'
import type { DeploymentSignals } from '../deployments/signals.ts'
import { DeploymentRollbacks } from '../registry/deployment-rollbacks.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'

/**
 * Starts the work on deployments, which are kept for `eventDays`. `onCommitted` is called after each commit that has events.
 */
export function startDeployments(
  { db, signals }: { readonly db: Database; readonly signals: DeploymentSignals },
  eventDays: number,
  onCommitted: () => void,
  log: Log,
  cleanup: CleanupStack,
): void {
  const rollbacks = new DeploymentRollbacks(db, onCommitted)
  const controller = new DeploymentController({
    ...{ db, signals, onCommitted },
    rollBack: (deployment) => rollbacks.rollBack(deployment),
    onError: (error) => log.error({ err: error }, 'advancing a deployment failed, retrying'),
  }).start()
  cleanup.defer(() => controller.stop())
  const pruning = new Loop({
    everySeconds: RETENTION_SECONDS,
    work: async (signal) => void (await pruneDeployments(db, eventDays, signal)),
    onError: (error) => log.error({ err: error }, 'pruning old deployments failed, retrying'),
  }).start()
  cleanup.defer(() => pruning.stop())
}
