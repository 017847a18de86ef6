import { mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { forEachConcurrent } from '../../async/for-each.ts'
import type { Config } from '../../config/config.ts'
import type { Database } from '../../db/database.ts'
import { findInstallationId } from '../../db/installation.ts'
import { isEmptyRegistry } from '../../db/maintenance/dump.ts'
import { hasSchema, listAppliedMigrations, listMigrationFiles } from '../../db/migrations.ts'
import { openBlobStoreNamed } from '../../server/blob-store.ts'
import { assertRestoreTarget } from '../../server/claim-store.ts'
import { StartError } from '../../server/cleanup.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { CommandError } from '../errors.ts'
import { sizeText } from '../printing.ts'
import { DUMP_FILE, type Generation, SECRET_FILES, sizeOf } from './backup-folder.ts'
import { type DumpHeader, readDumpBlobs, readDumpHeader, readDumpRows } from './dump-file.ts'

/** It made the table of the installation's id. */
const INSTALLATION_MIGRATION = '0003-access.sql'
const SAMPLED_BLOBS_MAX = 10
const BLOBS_CONCURRENCY_MAX = 16
const OBSTACLES_SHOWN_MAX = 100

/** The effects of a restore, and the obstacles to it. */
export type RestorePlan = {
  readonly backup: {
    readonly name: string
    readonly path: string
    readonly takenAt: string
    readonly rows: number
    readonly blobs: number
    readonly bytes: number
    /** Blobs that the registry had lost before. */
    readonly lost: number
    /** The last migration of its schema. */
    readonly schema: string | undefined
  }
  readonly database: {
    /** Without user and password. */
    readonly place: string
    /** The last migration that it has now; undefined for a new one. */
    readonly schema: string | undefined
    /** The last migration that it has after the restore. */
    readonly schemaAfter: string | undefined
  }
  readonly store: {
    readonly place: string
    /** Blobs of the backup that it has already. */
    readonly present: number
    readonly bytesToCopy: number
  }
  /** The id of the installation that the restore continues; undefined: it becomes a new one. */
  readonly continues: string | undefined
  /** Secret files that are written to the data folder, and those that it has and keeps. */
  readonly files: { readonly written: readonly string[]; readonly kept: readonly string[] }
  readonly obstacles: readonly string[]
}

/**
 * Finds what a restore of the backup would do. `db` is undefined when there is no database yet. Changes nothing; in a bucket
 * it writes one object and removes it, to learn whether it may. Throws StartError for a bucket that does not answer.
 */
export async function planRestore(
  folder: string,
  generation: Generation,
  config: Config,
  db: Database | undefined,
): Promise<RestorePlan> {
  const dump = join(generation.path, DUMP_FILE)
  const dataFolder = resolve(config.dataFolder)
  const header = await readDumpHeader(dump)
  const { takenAt, migrations, installation } = header
  const applied = db !== undefined && (await hasSchema(db)) ? await listAppliedMigrations(db) : []
  const obstacles = await findDatabaseObstacles(db, applied, header)
  return withTarget(config, dataFolder, async (store) => {
    const continues = (await store.readMark()) === installation ? installation : undefined
    const { rows, problem } = await countRows(dump)
    const counts = { blobs: 0, bytes: 0, lost: 0, present: 0, bytesToCopy: 0 }
    if (problem !== undefined) obstacles.push(problem)
    else {
      if (continues === undefined) {
        obstacles.push(...(await findStoreObstacles(db, applied, store, dump)))
      }
      obstacles.push(...(await countBlobs(dump, folder, store, counts)))
    }
    const { blobs, bytes, lost, present, bytesToCopy } = counts
    const free = config.s3 === undefined ? await freeBytes(dataFolder) : undefined
    if (free !== undefined && free < bytesToCopy) {
      obstacles.push(
        `no room: the blobs need ${sizeText(bytesToCopy)}, and ${dataFolder} has ${sizeText(free)}`,
      )
    }
    const { name, path } = generation
    const schema = migrations.at(-1)
    const files = await planFiles(path, dataFolder)
    const schemaAfter = (await listMigrationFiles()).at(-1)
    return {
      backup: { name, path, takenAt, rows, blobs, bytes, lost, schema },
      database: { place: placeOfDatabase(config, dataFolder), schema: applied.at(-1), schemaAfter },
      store: { place: store.location, present, bytesToCopy },
      ...{ continues, files, obstacles },
    }
  })
}

/** The plan as lines of text. */
export function planLines(plan: RestorePlan): string[] {
  const { backup, database, store, continues, files, obstacles } = plan
  const from = database.schema === undefined ? 'new' : `empty, with the schema ${database.schema}`
  return [
    `Backup ${backup.name} in ${backup.path}: taken at ${backup.takenAt}, schema ${backup.schema}, ${backup.rows} rows, ${backup.blobs} blobs with ${sizeText(backup.bytes)}.`,
    `Database: ${database.place}${obstacles.length > 0 ? '' : ` (${from})`}. It would get the rows, and then the schema ${database.schemaAfter}.`,
    `Blobs: ${store.place}. It has ${store.present} of them, and would get ${sizeText(store.bytesToCopy)}.`,
    ...(backup.lost > 0
      ? [`Lost before the backup: ${backup.lost} blobs, which are restored as lost.`]
      : []),
    ...(files.written.length > 0
      ? [`It would write ${files.written.join(' and ')} to the data folder.`]
      : []),
    ...(files.kept.length > 0
      ? [`It would keep ${files.kept.join(' and ')} of the data folder.`]
      : []),
    continues === undefined
      ? 'The registry would be a new installation.'
      : `The registry would continue the installation ${continues}: the one of the backup must not run any more.`,
    ...obstacles.slice(0, OBSTACLES_SHOWN_MAX).map((obstacle) => `In the way: ${obstacle}`),
    obstacles.length === 0
      ? 'Nothing is in the way. Nothing was changed.'
      : `In the way: ${obstacles.length} in all. Nothing was changed.`,
  ]
}

/** Throws CommandError for the first thing that is in the way in the database. */
export async function assertDatabaseFree(db: Database, header: DumpHeader): Promise<void> {
  const applied = (await hasSchema(db)) ? await listAppliedMigrations(db) : []
  const [obstacle] = await findDatabaseObstacles(db, applied, header)
  if (obstacle !== undefined) throw new CommandError(obstacle)
}

/**
 * Throws StartError unless the store is new, has the mark of this database, or has blobs of the backup without a mark.
 * `applied` are the migrations of the database.
 */
export async function assertStoreFree(
  db: Database | undefined,
  applied: readonly string[],
  store: BlobStore,
  dump: string,
): Promise<void> {
  const hasId = db !== undefined && applied.includes(INSTALLATION_MIGRATION)
  const id = hasId ? await findInstallationId(db) : undefined
  for await (const page of readDumpBlobs(dump)) {
    const keys = page.slice(0, SAMPLED_BLOBS_MAX).map(({ storageKey }) => storageKey)
    return assertRestoreTarget(store, id, keys)
  }
}

/** Finds the obstacles in the database; `applied` are its migrations. */
async function findDatabaseObstacles(
  db: Database | undefined,
  applied: readonly string[],
  { migrations }: DumpHeader,
): Promise<string[]> {
  const files = await listMigrationFiles()
  const obstacles: string[] = []
  const unknown = migrations.find((name) => !files.includes(name))
  if (unknown !== undefined) {
    obstacles.push(
      `the backup was taken by a newer release: its schema has the migration ${unknown}`,
    )
  }
  if (applied.some((name) => !migrations.includes(name))) {
    obstacles.push('the database has a newer schema than the backup: restore into a new database')
  }
  if (db !== undefined && applied.length > 0 && !(await isEmptyRegistry(db))) {
    obstacles.push(
      'this registry already has repositories: restore into an empty one, such as a new ROOKERY_DATA_DIR or database',
    )
  }
  return obstacles
}

async function findStoreObstacles(
  db: Database | undefined,
  applied: readonly string[],
  store: BlobStore,
  dump: string,
): Promise<string[]> {
  try {
    await assertStoreFree(db, applied, store, dump)
    return []
  } catch (error) {
    if (error instanceof StartError) return [error.message]
    throw error
  }
}

/** Reads the whole dump, because its end says that it is complete. */
async function countRows(dump: string): Promise<{ rows: number; problem?: string }> {
  let rows = 0
  try {
    for await (const _ of readDumpRows(dump)) rows += 1
    return { rows }
  } catch (error) {
    if (error instanceof CommandError) return { rows, problem: error.message }
    throw error
  }
}

/** Counts the blobs by their sizes, and returns those whose bytes the backup does not have. */
async function countBlobs(
  dump: string,
  folder: string,
  store: BlobStore,
  counts: { blobs: number; bytes: number; lost: number; present: number; bytesToCopy: number },
): Promise<string[]> {
  const source = FilesystemStore.at(folder)
  const missing: string[] = []
  for await (const page of readDumpBlobs(dump)) {
    await forEachConcurrent(page, BLOBS_CONCURRENCY_MAX, async (blob) => {
      const { digest, size, storageKey, lost } = blob
      const isPresent = (await store.stat(storageKey)) === size
      if (!isPresent && (await source.stat(storageKey)) !== size) {
        if (lost) counts.lost += 1
        else missing.push(`the backup has no bytes of ${digest}`)
        return
      }
      counts.blobs += 1
      counts.bytes += size
      if (isPresent) counts.present += 1
      else counts.bytesToCopy += size
    })
  }
  return missing
}

/** Divides the secret files of a backup into those that the data folder does not have, and those that it has. */
export async function planFiles(path: string, dataFolder: string): Promise<RestorePlan['files']> {
  const files = { written: [] as string[], kept: [] as string[] }
  for (const name of SECRET_FILES) {
    if ((await sizeOf(join(path, name))) === undefined) continue
    const isThere = (await sizeOf(join(dataFolder, name))) !== undefined
    files[isThere ? 'kept' : 'written'].push(name)
  }
  return files
}

/** Opens the configured store without making its folders. */
async function withTarget<T>(
  config: Config,
  dataFolder: string,
  work: (store: BlobStore) => Promise<T>,
): Promise<T> {
  if (config.s3 === undefined) return work(FilesystemStore.at(dataFolder))
  const spool = await mkdtemp(join(tmpdir(), 'rookery-restore-'))
  try {
    const { store, close } = await openBlobStoreNamed('s3', config, spool)
    return await work(store).finally(close)
  } finally {
    await rm(spool, { recursive: true, force: true })
  }
}

/** The free bytes of the disk on which a folder is, or would be made. */
async function freeBytes(folder: string): Promise<number> {
  let at = folder
  while ((await sizeOf(at)) === undefined && at !== dirname(at)) at = dirname(at)
  const { bavail, bsize } = await statfs(at)
  return bavail * bsize
}

function placeOfDatabase({ databaseUrl }: Config, dataFolder: string): string {
  if (databaseUrl === undefined) return `the embedded Postgres in ${join(dataFolder, 'postgres')}`
  const { hostname, pathname, searchParams } = new URL(databaseUrl)
  const host = hostname || searchParams.get('host') || 'localhost'
  return `${decodeURIComponent(pathname.slice(1)) || 'the default database'} on ${host}`
}
