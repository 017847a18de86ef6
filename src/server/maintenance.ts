import type { Config } from '../config/config.ts'
import { startReanalysis } from '../registry/images/reanalysis.ts'
import { GarbageCollector, type SweepReport } from '../registry/maintenance/garbage.ts'
import { startGarbageCollection } from '../registry/maintenance/gc-loop.ts'
import { startStorageUsage } from '../registry/maintenance/storage-usage.ts'
import { startUnwrapping } from '../registry/unwrap/background.ts'
import type { CleanupStack } from './cleanup.ts'
import { watchDisk } from './disk-reserve.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { RegistryOperations } from './registry.ts'
import type { Stores } from './stores.ts'

/**
 * Watches the disk, and starts garbage collection, the measurement of the store, and the re-analysis of manifests that an
 * earlier release analyzed. One process of a server does this. Read-only, it only watches.
 */
export function startMaintenance(
  { db, store, reserve }: Stores,
  { analyzer }: Pick<RegistryOperations, 'analyzer'>,
  metrics: Metrics,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): void {
  watchDisk(reserve, log, cleanup)
  if (config.readOnly) {
    log.warn('the registry is read-only: writes are refused, and garbage collection rests')
    return
  }
  metrics.sweepsBegin()
  const sweeping = startGarbageCollection(new GarbageCollector(db, store, config.gcGraceSeconds), {
    everySeconds: config.gcIntervalSeconds,
    onSwept(report, seconds) {
      metrics.swept(report, seconds)
      logSweep(report, log)
    },
    onError(error) {
      metrics.sweepFailed()
      log.error({ err: error }, 'garbage collection failed, retrying')
    },
  })
  cleanup.defer(() => sweeping.stop())
  const measuring = startStorageUsage(db, (error) =>
    log.error({ err: error }, 'measuring the store failed, retrying'),
  )
  cleanup.defer(() => measuring.stop())
  const reanalysis = startReanalysis(
    db,
    analyzer,
    (counts) => log.info(counts, 'manifests analyzed again'),
    (error) => log.error({ err: error }, 'analyzing manifests again failed, retrying'),
  )
  cleanup.defer(() => reanalysis.stop())
}

/**
 * Starts the search for kernels in container images that were too much for their pushes. `onCommitted` is called after each
 * commit that has events.
 */
export function startUnwrapQueue(
  { db }: Stores,
  { unwrapper }: RegistryOperations,
  onCommitted: () => void,
  log: Log,
  cleanup: CleanupStack,
): void {
  const unwrapping = startUnwrapping({
    ...{ db, unwrapper, onCommitted },
    onError: (error) => log.error({ err: error }, 'reading a container image failed, retrying'),
  })
  unwrapper.onPending = () => unwrapping.poke()
  cleanup.defer(() => unwrapping.stop())
}

function logSweep({ failures, checked: _checked, ...counts }: SweepReport, log: Log): void {
  const [first] = failures
  if (first !== undefined) {
    const fields = { err: first, failures: failures.length }
    log.error(fields, 'removing bytes from the store failed, retrying')
  }
  const { uploads, repositories, contents, blobs, deletions } = counts
  if (uploads + repositories + contents + blobs + deletions > 0) log.info(counts, 'garbage swept')
}
