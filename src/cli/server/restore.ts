import { chmod, constants, copyFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import type { Database } from '../../db/database.ts'
import { findInstallationId, replaceInstallationId } from '../../db/installation.ts'
import {
  clearFirstStart,
  type DumpRow,
  finishLoad,
  isEmptyRegistry,
  loadRows,
} from '../../db/maintenance/dump.ts'
import type { InventoryRow } from '../../db/maintenance/inventory.ts'
import { listAppliedMigrations, listMigrationFiles, migrate } from '../../db/migrations.ts'
import { clearLostExcept } from '../../db/registry/lost-blobs.ts'
import type { Digest } from '../../oci/digest.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { openBlobStore } from '../../server/blob-store.ts'
import { assertRestoreTarget, claimStore } from '../../server/claim-store.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { command, JSON_OPTION, required, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { printResult, sizeText } from '../printing.ts'
import { DUMP_FILE, OWNER_ONLY, SECRET_FILES } from './backup.ts'
import { readDumpBlobs, readDumpHeader, readDumpRows } from './dump-file.ts'
import { withDatabase } from './operator.ts'

const FAILURES_SHOWN_MAX = 100
/** It made the table of the installation's id. */
const INSTALLATION_MIGRATION = '0003-access.sql'
const SAMPLED_BLOBS_MAX = 10
const LOAD_ROWS_MAX = 500
const LOAD_CHARACTERS_MAX = 8 * 1024 * 1024

/** `rookery restore`: the blobs of a backup into the blob store, and then its rows into an empty database. */
export const restoreCommand = command({
  options: {
    from: required(value('FOLDER', 'folder of the backup')),
    ...JSON_OPTION,
  },
  notes:
    'A restore that was stopped can be run again. Into the folder or bucket of the backed-up registry, it continues that installation.',
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
      const { migrations, installation } = await readDumpHeader(dump)
      await prepareSchema(db, migrations)
      const opened = await openBlobStore(config, dataFolder)
      try {
        const { store } = opened
        const continued = (await store.readMark()) === installation ? installation : undefined
        if (continued === undefined) await assertStoreFree(db, store, dump, migrations)
        const lost = new Set<Digest>()
        const reportProgress = progressReporter('copied and verified')
        const source = await FilesystemStore.open(folder)
        const report = await copyBlobs(collectLost(readDumpBlobs(dump), lost), source, store, {
          signal: stopSignal(),
          onPage: async (soFar) => reportProgress(soFar),
          isReferenced: async () => true,
        })
        for (const { digest, reason } of report.failures.slice(0, FAILURES_SHOWN_MAX)) {
          process.stderr.write(`${reason} ${digest}\n`)
        }
        const missing = report.failures.filter(({ digest }) => !lost.has(digest))
        if (missing.length > 0) {
          throw new CommandError(
            `the bytes of ${missing.length} blobs are missing from the backup; nothing was restored`,
          )
        }
        const rows = await loadDump(db, dump, continued)
        await migrate(db)
        const failed = report.failures.map(({ digest }) => digest)
        await clearLostExcept(db, failed)
        await claimStore(db, store)
        await copySecrets(folder, dataFolder)
        printResult(json, { rows, ...report }, [
          ...(failed.length === 0
            ? []
            : [`Restored as lost: ${failed.length} blobs, which the registry had lost before.`]),
          ...(continued === undefined
            ? []
            : [
                `This registry continues the installation ${continued}: the one of the backup must not run any more.`,
              ]),
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

/** Throws StartError unless the store is new, has the mark of this database, or has blobs of the backup without a mark. */
async function assertStoreFree(
  db: Database,
  store: BlobStore,
  dump: string,
  migrations: readonly string[],
): Promise<void> {
  const id = migrations.includes(INSTALLATION_MIGRATION) ? await findInstallationId(db) : undefined
  for await (const page of readDumpBlobs(dump)) {
    const keys = page.slice(0, SAMPLED_BLOBS_MAX).map(({ storageKey }) => storageKey)
    return assertRestoreTarget(store, id, keys)
  }
}

/** Yields the pages, and adds the digests of lost blobs to `lost`. */
async function* collectLost(
  pages: AsyncIterable<InventoryRow[]>,
  lost: Set<Digest>,
): AsyncGenerator<InventoryRow[]> {
  for await (const page of pages) {
    for (const blob of page) if (blob.lost) lost.add(blob.digest)
    yield page
  }
}

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
