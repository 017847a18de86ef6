import { Loop } from '../async/loop.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../db/database.ts'
import { DesiredUnits } from '../deployments/desired.ts'
import { ImageKernelsCache } from '../deployments/image-kernels.ts'
import { Presence } from '../deployments/presence.ts'
import { Reports } from '../deployments/reports.ts'
import type { DeploymentSignals } from '../deployments/signals.ts'
import { pruneUnitLogs } from '../deployments/unit-logs.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'

/** The services for hosts: desired units, reports and presence. */
export type HostServices = {
  readonly desired: DesiredUnits
  readonly reports: Reports
  readonly presence: Presence
}

type HostDeps = {
  readonly db: Database
  readonly signals: DeploymentSignals
  /** Hosts that wait at the same time. */
  readonly hostsMax: number
}

// Hosts wait up to a minute before they try a registry again that was down.
const PRESENCE_GRACE_SECONDS = 120
const JOINING_SECONDS = 15
const RETENTION_SECONDS = 3600

/** Builds and starts what answers hosts. Lines that kernels printed are kept as long as events. `onCommitted` is called after each commit that has events. */
export function startHostServices(
  { db, signals, hostsMax }: HostDeps,
  { eventDays: logDays, readOnly }: Pick<Config, 'eventDays' | 'readOnly'>,
  onCommitted: () => void,
  log: Log,
  cleanup: CleanupStack,
): HostServices {
  const logError = (message: string) => (error: unknown) => log.error({ err: error }, message)
  const kernels = new ImageKernelsCache(db)
  const desired = new DesiredUnits({
    ...{ db, kernels, signals, hostsMax },
    onError: logError('looking for changes of what hosts should run failed, retrying'),
  })
  const presence = new Presence({
    ...{ db, onCommitted, graceSeconds: PRESENCE_GRACE_SECONDS },
    onError: logError('recording which hosts are online failed, retrying'),
  })
  cleanup.defer(() => presence.stop())
  cleanup.defer(() => desired.stop())
  const reports = new Reports(db, kernels, onCommitted)
  desired.start()
  presence.start()
  const services = { desired, presence, reports }
  if (readOnly) return services
  const joining = new Loop({
    everySeconds: JOINING_SECONDS,
    work: async (signal) => void (await reports.joinMissed(signal)),
    onError: logError('looking for new units whose tag moved failed, retrying'),
  }).start()
  cleanup.defer(() => joining.stop())
  const pruning = new Loop({
    everySeconds: RETENTION_SECONDS,
    work: (signal) => pruneUnitLogs(db, logDays, signal),
    onError: logError('pruning old lines of kernels failed, retrying'),
  }).start()
  cleanup.defer(() => pruning.stop())
  return services
}
