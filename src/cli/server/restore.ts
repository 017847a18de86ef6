import { join, resolve } from 'node:path'
import type { Database } from '../../db/database.ts'
import { replaceInstallationId } from '../../db/installation.ts'
import { clearFirstStart, type DumpRow, finishLoad, loadRows } from '../../db/maintenance/dump.ts'
import { migrate } from '../../db/migrations.ts'
import { clearLostExcept } from '../../db/registry/lost-blobs.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { openBlobStore } from '../../server/blob-store.ts'
import { claimStore } from '../../server/claim-store.ts'
import { syncFolder } from '../../storage/filesystem/files.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { command, describeDefault, flag, JSON_OPTION, required, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { printResult, sizeText } from '../printing.ts'
import { copyDurably, DUMP_FILE, findGeneration } from './backup-folder.ts'
import { readDumpBlobs, readDumpHeader, readDumpRows } from './dump-file.ts'
import { withDatabase, withExistingDatabase } from './operator.ts'
import {
  assertDatabaseFree,
  assertStoreFree,
  planFiles,
  planLines,
  planRestore,
} from './restore-plan.ts'

const FAILURES_SHOWN_MAX = 100
const LOAD_ROWS_MAX = 500
const LOAD_CHARACTERS_MAX = 8 * 1024 * 1024

/** `rookery restore`: the blobs of a backup into the blob store, and then its rows into an empty database. */
export const restoreCommand = command({
  options: {
    from: required(value('FOLDER', 'folder of the backups')),
    generation: describeDefault(value('NAME', 'the backup'), 'the newest complete one'),
    dryRun: flag('print what a restore would do and what is in its way, and change nothing'),
    ...JSON_OPTION,
  },
  notes:
    'A restore that was stopped can be run again. Into the folder or bucket of the backed-up registry, it continues that installation. The exit status of --dry-run is 1 when something is in the way.',
  examples: [
    [
      'ROOKERY_DATA_DIR=/srv/rookery rookery restore --from /backup/rookery',
      'restore into a new data folder',
    ],
  ],
  async run({ from, generation: name, dryRun, json }, environment) {
    if (from === '') throw new UsageError('--from must be the folder of the backups')
    const folder = resolve(from)
    if (dryRun) {
      return withExistingDatabase(environment, async (db, config) => {
        const plan = await planRestore(folder, await findGeneration(folder, name), config, db)
        printResult(json, plan, planLines(plan))
        return plan.obstacles.length === 0 ? STATUS.ok : STATUS.found
      })
    }
    return withDatabase(environment, async ({ db, dataFolder }, config) => {
      const generation = await findGeneration(folder, name)
      const dump = join(generation.path, DUMP_FILE)
      const header = await readDumpHeader(dump)
      const { migrations, installation } = header
      await assertDatabaseFree(db, header)
      await migrate(db, migrations.at(-1))
      const opened = await openBlobStore(config, dataFolder)
      try {
        const { store } = opened
        const continued = (await store.readMark()) === installation ? installation : undefined
        if (continued === undefined) await assertStoreFree(db, migrations, store, dump)
        const reportProgress = progressReporter('copied and verified')
        const source = FilesystemStore.at(folder)
        const report = await copyBlobs(readDumpBlobs(dump), source, store, {
          signal: stopSignal(),
          onPage: async (soFar) => reportProgress(soFar),
          isReferenced: async () => true,
        })
        for (const { digest, reason } of report.failures.slice(0, FAILURES_SHOWN_MAX)) {
          process.stderr.write(`${reason} ${digest}\n`)
        }
        const missing = report.failures.filter(({ lost }) => !lost)
        if (missing.length > 0) {
          throw new CommandError(
            `the bytes of ${missing.length} blobs are missing from the backup; nothing was restored`,
          )
        }
        // Before the rows, which make the restore one that is not repeated.
        await copySecrets(generation.path, dataFolder)
        const rows = await loadDump(db, dump, continued)
        await migrate(db)
        const failed = report.failures.map(({ digest }) => digest)
        await clearLostExcept(db, failed)
        await claimStore(db, store)
        printResult(json, { name: generation.name, rows, ...report }, [
          ...(failed.length === 0
            ? []
            : [`Restored as lost: ${failed.length} blobs, which the registry had lost before.`]),
          ...(continued === undefined
            ? []
            : [
                `This registry continues the installation ${continued}: the one of the backup must not run any more.`,
              ]),
          `Restored the backup ${generation.name}: ${rows} rows, and ${report.blobs} blobs with ${sizeText(report.bytes)}.`,
        ])
        return STATUS.ok
      } finally {
        opened.close()
      }
    })
  },
})

/** Loads all rows in one transaction, which keeps the id of the installation that the database continues. */
async function loadDump(
  db: Database,
  path: string,
  continued: string | undefined,
): Promise<number> {
  return db.transaction(async (tx) => {
    await clearFirstStart(tx)
    let [loaded, characters] = [0, 0]
    let batch: string[] = []
    let of: DumpRow['table'] | undefined
    const flush = async (): Promise<void> => {
      if (of !== undefined && batch.length > 0) await loadRows(tx, of, batch)
      loaded += batch.length
      batch = []
      characters = 0
    }
    for await (const { table, row } of readDumpRows(path)) {
      const isFull = batch.length >= LOAD_ROWS_MAX || characters >= LOAD_CHARACTERS_MAX
      if (table !== of || isFull) await flush()
      of = table
      batch.push(row)
      characters += row.length
    }
    await flush()
    await finishLoad(tx)
    if (continued !== undefined) await replaceInstallationId(tx, continued)
    return loaded
  })
}

/** Copies the secret files that the backup has and the data folder does not. */
async function copySecrets(path: string, dataFolder: string): Promise<void> {
  const { written } = await planFiles(path, dataFolder)
  for (const name of written) await copyDurably(join(path, name), join(dataFolder, name))
  await syncFolder(dataFolder)
}
