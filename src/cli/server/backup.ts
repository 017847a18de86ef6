import { chmod, copyFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { findInstallation } from '../../db/installation.ts'
import { endDeletionPause, pauseDeletions } from '../../db/maintenance/deletion-queue.ts'
import { dumpRows } from '../../db/maintenance/dump.ts'
import { listAppliedMigrations } from '../../db/migrations.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { ADMIN_PASSWORD_FILE } from '../../server/admin-password.ts'
import { makeOwnFolder } from '../../server/own-folder.ts'
import { MASTER_KEY_FILE } from '../../server/signing-keys.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { command, JSON_OPTION, required, value } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { printResult, sizeText } from '../printing.ts'
import { readDumpBlobs, writeDump } from './dump-file.ts'
import { withStores } from './operator.ts'

/** Longer than a backup takes. A backup that crashes pauses deletions for this time. */
const PAUSE_SECONDS = 7 * 86_400
const FAILURES_SHOWN_MAX = 100
export const OWNER_ONLY = 0o600

/** The files of a backup's folder besides `blobs/`. */
export const DUMP_FILE = 'database.jsonl.gz'
export const SECRET_FILES = [ADMIN_PASSWORD_FILE, MASTER_KEY_FILE]

/** `rookery backup`: a snapshot of the database, and then the bytes of every blob that it names. */
export const backupCommand = command({
  options: {
    to: required(value('FOLDER', 'folder of the backup, created when it is missing')),
    ...JSON_OPTION,
  },
  notes:
    'A later backup to the same folder copies only new blobs. The exit status is 1 when a blob could not be copied.',
  examples: [['rookery backup --to /backup/rookery', 'back up while the registry runs']],
  async run({ to, json }, environment) {
    if (to === '') throw new UsageError('--to must be the folder of the backup')
    const folder = resolve(to)
    return withStores(environment, async ({ db, store, dataFolder }) => {
      await makeOwnFolder(folder, 0o700)
      const target = await FilesystemStore.open(folder)
      const signal = stopSignal()
      // From here on, no bytes that the dump may name are deleted.
      const pause = await pauseDeletions(db, PAUSE_SECONDS, 'rookery backup')
      try {
        const takenAt = new Date().toISOString()
        const migrations = await listAppliedMigrations(db)
        const { id: installation } = await findInstallation(db)
        const header = {
          rookery: 'database',
          version: 1,
          takenAt,
          migrations,
          installation,
        } as const
        const dump = join(folder, DUMP_FILE)
        const rows = await writeDump(dump, header, (take) => dumpRows(db, take))
        await copySecrets(dataFolder, folder)
        const reportProgress = progressReporter('copied and verified')
        const report = await copyBlobs(readDumpBlobs(dump), store, target, {
          signal,
          onPage: async (soFar) => reportProgress(soFar),
          isReferenced: async () => true,
        })
        printResult(json, { folder, takenAt, rows, ...report }, [
          ...report.failures
            .slice(0, FAILURES_SHOWN_MAX)
            .map(({ digest, reason }) => `${reason} ${digest}`),
          `Backup in ${folder}: ${rows} rows, and ${report.blobs} blobs with ${sizeText(report.bytes)}, ${report.present} of them from an earlier backup.`,
        ])
        return report.failures.length === 0 ? STATUS.ok : STATUS.found
      } finally {
        await endDeletionPause(db, pause.id)
      }
    })
  },
})

/**
 * Copies the admin password, whose hash alone is in the database, and the key that decrypts the
 * secrets of webhooks, when the data folder has them.
 */
async function copySecrets(dataFolder: string, folder: string): Promise<void> {
  for (const name of SECRET_FILES) {
    try {
      await copyFile(join(dataFolder, name), join(folder, name))
      await chmod(join(folder, name), OWNER_ONLY)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
    }
  }
}
