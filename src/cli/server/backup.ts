import { copyFile, mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { endDeletionPause, pauseDeletions } from '../../db/maintenance/deletion-queue.ts'
import { dumpRows } from '../../db/maintenance/dump.ts'
import { listAppliedMigrations } from '../../db/migrations.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { ADMIN_PASSWORD_FILE } from '../../server/admin-password.ts'
import { MASTER_KEY_FILE } from '../../server/signing-keys.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import {
  type Command,
  parseOptions,
  progressTeller,
  STATUS,
  sizeText,
  stopSignal,
  UsageError,
} from '../command.ts'
import { readDumpBlobs, writeDump } from './dump-file.ts'
import { withState } from './operator.ts'

/** Longer than a backup takes; one that dies lets go after it. */
const HOLD_SECONDS = 7 * 86_400
const FAILURES_SHOWN_MAX = 100

/** What a backup's folder has, beside `blobs/`. */
export const DUMP_FILE = 'database.jsonl.gz'
export const SECRET_FILES = [ADMIN_PASSWORD_FILE, MASTER_KEY_FILE]

/** `rookery backup`: the database as it is now, and then the bytes of every blob that it names. */
export const backup: Command = {
  words: ['backup'],
  usage: '--to FOLDER [--json]',
  summary: 'Copy database and blobs to a folder, while the registry runs; again brings what is new',
  async run(args, environment) {
    const options = parseOptions(args, {
      to: { type: 'string' },
      json: { type: 'boolean', default: false },
    })
    if (!options.to) throw new UsageError('--to must name the folder of the backup')
    const folder = resolve(options.to)
    return withState(environment, async ({ db, store, dataFolder }) => {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const target = await FilesystemStore.open(folder)
      const signal = stopSignal()
      // From here on no bytes go that the dump may name.
      const hold = await pauseDeletions(db, HOLD_SECONDS, 'rookery backup')
      try {
        const takenAt = new Date().toISOString()
        const migrations = await listAppliedMigrations(db)
        const header = { rookery: 'database', version: 1, takenAt, migrations } as const
        const dump = join(folder, DUMP_FILE)
        const rows = await writeDump(dump, header, (take) => dumpRows(db, take))
        await copySecrets(dataFolder, folder)
        const tell = progressTeller('copied and read back')
        const report = await copyBlobs(readDumpBlobs(dump), store, target, {
          signal,
          onPage: async (soFar) => tell(soFar),
          isReferenced: async () => true,
        })
        const lines = [
          ...report.failures
            .slice(0, FAILURES_SHOWN_MAX)
            .map(({ digest, reason }) => `${reason} ${digest}`),
          `In ${folder}: ${rows} rows, and ${report.blobs} blobs with ${sizeText(report.bytes)}, ${report.present} of them from before.`,
        ]
        const result = { folder, takenAt, rows, ...report }
        process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : `${lines.join('\n')}\n`)
        return report.failures.length === 0 ? STATUS.ok : STATUS.found
      } finally {
        await endDeletionPause(db, hold.id)
      }
    })
  },
}

/**
 * The first password, of which the database has only the hash, and the key that opens the secrets of
 * webhooks: where the data folder has them.
 */
async function copySecrets(dataFolder: string, folder: string): Promise<void> {
  for (const name of SECRET_FILES) {
    try {
      await copyFile(join(dataFolder, name), join(folder, name))
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
    }
  }
}
