import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { Loop } from '../async/loop.ts'
import { readWatchedValues } from '../db/maintenance/watched-values.ts'
import { STORAGE_USAGE_JOB, type StorageUsage } from '../registry/maintenance/storage-usage.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { DiskSpace } from './metrics-values.ts'
import type { Stores } from './stores.ts'

/** A scrape shows values that are at most so old, and costs no statement, however often somebody scrapes. */
const REFRESH_SECONDS = 15

type Observed = Pick<Stores, 'db' | 'dataFolder' | 'storeName'>

/** Registers the connection pools of this process, which are read at each scrape. */
export function registerPools(
  { db, questions }: Pick<Stores, 'db' | 'questions'>,
  metrics: Metrics,
) {
  metrics.registerPools(() => ({ registry: db.use, questions: questions.use }))
}

/** Reads the values of the database and the disks in the background. One process of a server does it. */
export function startMetricsRefresh(
  { db, dataFolder, storeName }: Observed,
  metrics: Metrics,
  log: Log,
  cleanup: CleanupStack,
): void {
  const folders: Record<string, string> = { data: dataFolder }
  // It may be a disk of its own.
  if (storeName === 'filesystem') folders.blobs = join(dataFolder, 'blobs')
  const refresh = new Loop({
    everySeconds: REFRESH_SECONDS,
    async work() {
      const [{ storage, ...values }, disks] = await Promise.all([
        readWatchedValues(db, STORAGE_USAGE_JOB),
        readDisks(folders),
      ])
      metrics.show({
        ...{ ...values, disks, readAt: Date.now() },
        storage: (storage as StorageUsage | null) ?? undefined,
      })
    },
    onError: (error) => log.error({ err: error }, 'reading values for metrics failed, retrying'),
  }).start()
  cleanup.defer(() => refresh.stop())
}

async function readDisks(
  folders: Readonly<Record<string, string>>,
): Promise<Record<string, DiskSpace>> {
  const disks = await Promise.all(
    Object.entries(folders).map(async ([name, folder]) => {
      const { bsize, bavail, blocks } = await statfs(folder)
      return [name, { free: bavail * bsize, size: blocks * bsize }] as const
    }),
  )
  return Object.fromEntries(disks)
}
