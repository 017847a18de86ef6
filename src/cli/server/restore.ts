import { chmod, constants, copyFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import type { Database } from '../../db/database.ts'
import {
  clearFirstStart,
  type DumpRow,
  finishLoad,
  isEmptyRegistry,
  loadRows,
} from '../../db/maintenance/dump.ts'
import { listAppliedMigrations, listMigrationFiles, migrate } from '../../db/migrations.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { openBlobStore } from '../../server/blob-store.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { command, JSON_OPTION, required, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { printResult, sizeText } from '../printing.ts'
import { DUMP_FILE, OWNER_ONLY, SECRET_FILES } from './backup.ts'
import { readDumpBlobs, readDumpHeader, readDumpRows } from './dump-file.ts'
import { withDatabase } from './operator.ts'

const FAILURES_SHOWN_MAX = 100
const LOAD_ROWS_MAX = 500
const LOAD_CHARACTERS_MAX = 8 * 1024 * 1024

/** `rookery restore`: the blobs of a backup into the blob store, and then its rows into an empty database. */
export const restoreCommand = command({
  options: {
    from: required(value('FOLDER', 'folder of the backup')),
    ...JSON_OPTION,
  },
  notes: 'A restore that was stopped can be run again.',
  examples: [
    [
      'ROOKERY_DATA_DIR=/srv/rookery rookery restore --from /backup/rookery',
      'restore into a new data folder',
    ],
  ],
  async run({ from, json }, environment) {
    if (from === '') throw new UsageError('--from must be the folder of the backup')
    const folder = resolve(from)
    const dump = join(folder, DUMP_FILE)
    return withDatabase(environment, async ({ db, dataFolder }, config) => {
      const { migrations } = await readDumpHeader(dump)
      await prepareSchema(db, migrations)
      const opened = await openBlobStore(config, dataFolder)
      try {
        const reportProgress = progressReporter('copied and verified')
        const source = await FilesystemStore.open(folder)
        const report = await copyBlobs(readDumpBlobs(dump), source, opened.store, {
          signal: stopSignal(),
          onPage: async (soFar) => reportProgress(soFar),
          isReferenced: async () => true,
        })
        if (report.failures.length > 0) {
          for (const { digest, reason } of report.failures.slice(0, FAILURES_SHOWN_MAX)) {
            process.stderr.write(`${reason} ${digest}\n`)
          }
          throw new CommandError(
            `the bytes of ${report.failures.length} blobs are missing from the backup; nothing was restored`,
          )
        }
        const rows = await loadDump(db, dump)
        await migrate(db)
        await copySecrets(folder, dataFolder)
        printResult(json, { rows, ...report }, [
          `Restored ${rows} rows, and ${report.blobs} blobs with ${sizeText(report.bytes)}.`,
        ])
        return STATUS.ok
      } finally {
        opened.close()
      }
    })
  },
})

/** Brings an empty database to the schema as it was when the backup was taken. */
async function prepareSchema(db: Database, migrations: readonly string[]): Promise<void> {
  const files = await listMigrationFiles()
  const unknown = migrations.find((name) => !files.includes(name))
  if (unknown !== undefined) {
    throw new CommandError(
      `the backup was taken by a newer release: its schema has the migration ${unknown}`,
    )
  }
  await migrate(db, migrations.at(-1))
  const has = await listAppliedMigrations(db)
  if (has.length !== migrations.length) {
    throw new CommandError(
      'the database has a newer schema than the backup: restore into a new database',
    )
  }
  if (!(await isEmptyRegistry(db))) {
    throw new CommandError(
      'this registry already has repositories: restore into an empty one, such as a new ROOKERY_DATA_DIR or database',
    )
  }
}

/** Loads all rows in one transaction. */
async function loadDump(db: Database, path: string): Promise<number> {
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
    return loaded
  })
}

async function copySecrets(folder: string, dataFolder: string): Promise<void> {
  for (const name of SECRET_FILES) {
    try {
      await copyFile(join(folder, name), join(dataFolder, name), constants.COPYFILE_EXCL)
      await chmod(join(dataFolder, name), OWNER_ONLY)
    } catch (error) {
      // The file is missing in the backup, or exists in this folder already.
      const code = errnoOf(error)
      if (code !== 'ENOENT' && code !== 'EEXIST') throw error
    }
  }
}
