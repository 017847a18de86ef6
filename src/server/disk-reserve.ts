import { join } from 'node:path'
import { Loop } from '../async/loop.ts'
import type { Config } from '../config/config.ts'
import { DiskReserve, type DiskState } from '../storage/filesystem/disk-reserve.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'

const CHECK_SECONDS = 10

/** Returns the reserve of the disks that this process writes to; undefined when other machines have them, or for a reserve of 0. */
export function diskReserve(
  { databaseUrl, s3, diskReserveBytes: reserveBytes }: Config,
  dataFolder: string,
): DiskReserve | undefined {
  const folders = [
    ...(s3 === undefined ? [{ path: join(dataFolder, 'blobs'), holdsBlobs: true }] : []),
    ...(databaseUrl === undefined
      ? [{ path: join(dataFolder, 'postgres'), holdsBlobs: false }]
      : []),
  ]
  if (folders.length === 0 || reserveBytes === 0) return undefined
  return new DiskReserve(folders, reserveBytes)
}

const LEVELS = { enough: 'info', low: 'warn', full: 'error' } as const satisfies Record<
  DiskState,
  string
>
const MESSAGES: Readonly<Record<DiskState, string>> = {
  enough: 'the disk has space again',
  low: 'the disk is nearly full: pushes are refused when its reserve is reached',
  full: 'the disk has only its reserve left: pushes are refused',
}

/** Looks at the disk also while nobody pushes, and logs when it becomes full, and when it has space again. */
export function watchDisk(reserve: DiskReserve | undefined, log: Log, cleanup: CleanupStack): void {
  if (reserve === undefined) return
  const { reserveBytes } = reserve
  reserve.onState = (state, folder, freeBytes) =>
    log[LEVELS[state]]({ folder, freeBytes, reserveBytes }, MESSAGES[state])
  const watch = new Loop({
    everySeconds: CHECK_SECONDS,
    work: () => reserve.check(),
    onError: (error) => log.error({ err: error }, 'reading the free space failed, retrying'),
  }).start()
  cleanup.defer(() => watch.stop())
}
