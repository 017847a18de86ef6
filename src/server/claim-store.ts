import { setTimeout } from 'node:timers/promises'
import { errnoOf } from '../async/errno.ts'
import type { Database } from '../db/database.ts'
import { findInstallation, recordStoreMarked } from '../db/installation.ts'
import { findReferenced, sampleKeys } from '../db/maintenance/inventory.ts'
import { AlreadyRunningError, runExclusively } from '../db/maintenance/jobs.ts'
import { wrongMarkText } from '../registry/checked-store.ts'
import { type BlobStore, type StoredObject, StoreUnavailableError } from '../storage/blob-store.ts'
import { StartError } from './cleanup.ts'

/** Number of the oldest, and of the newest blobs that are looked for in a store without a mark. */
const SAMPLED_BLOBS_MAX = 10
/** Number of objects of a store without a mark that are looked for in the database. */
const SAMPLED_OBJECTS_MAX = 100
const LOCK_WAIT_MILLISECONDS = 250
const LOCK_ATTEMPTS_MAX = 120

/**
 * Checks that a store is that of the database, and returns the id of the installation. A new store of a new database gets
 * the mark, and so does one without a mark that has bytes of this database. Throws StartError for any other store:
 * the registry would not find its blobs there, and would delete those of another.
 */
export async function claimStore(
  db: Database,
  store: BlobStore,
  { sharesFolder = false }: ClaimOptions = {},
): Promise<string> {
  return withStartError(store, async () => {
    const { id, hasMarkedStore } = await findInstallation(db)
    const mark = await store.readMark()
    if (mark !== id || !hasMarkedStore) await markExclusively(db, store, sharesFolder)
    return id
  })
}

type ClaimOptions = {
  /** True when the database is in the same data folder: a new one then follows a removed one, and may take its empty store. */
  readonly sharesFolder?: boolean
}

/**
 * Checks that a store can receive copies of the database's blobs: it has the mark, or no mark and no bytes but of this
 * database. Throws StartError as `claimStore`.
 */
export async function assertCopyTarget(db: Database, store: BlobStore): Promise<void> {
  await withStartError(store, async () => {
    const { id } = await findInstallation(db)
    const keys = await sampleKeys(db, SAMPLED_BLOBS_MAX)
    const hasReference = (objects: readonly StoredObject[]) => isReferenced(db, objects)
    await assertEmptyOrOwn(store, id, keys, hasReference)
  })
}

/**
 * Checks that the blobs of a backup, of which `keys` is a sample, can be restored to a store: it is empty, has some of
 * them, or has the mark `id`. Throws StartError as `claimStore`.
 */
export async function assertRestoreTarget(
  store: BlobStore,
  id: string | undefined,
  keys: readonly string[],
): Promise<void> {
  await withStartError(store, () => assertEmptyOrOwn(store, id, keys, async () => false))
}

async function assertEmptyOrOwn(
  store: BlobStore,
  id: string | undefined,
  keys: readonly string[],
  hasReference: (objects: readonly StoredObject[]) => Promise<boolean>,
): Promise<void> {
  const mark = await store.readMark()
  if (mark !== undefined && mark === id) return
  if (mark !== undefined) throw wrongStore(store, mark, id ?? 'a new one')
  if ((await countPresent(store, keys, 1)) > 0) return
  const objects = await firstObjects(store)
  if (objects.length > 0 && !(await hasReference(objects))) throw bytesOfOthers(store, objects, id)
}

/** Marks the store while no other process does so. */
async function markExclusively(
  db: Database,
  store: BlobStore,
  sharesFolder: boolean,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await runExclusively(db, 'the mark of a store', () =>
        markUnlessForeign(db, store, sharesFolder),
      )
    } catch (error) {
      if (!(error instanceof AlreadyRunningError) || attempt === LOCK_ATTEMPTS_MAX) throw error
      await setTimeout(LOCK_WAIT_MILLISECONDS)
    }
  }
}

async function markUnlessForeign(
  db: Database,
  store: BlobStore,
  sharesFolder: boolean,
): Promise<void> {
  const { id, hasMarkedStore } = await findInstallation(db)
  const mark = await store.readMark()
  if (mark === id && hasMarkedStore) return
  const keys = await sampleKeys(db, SAMPLED_BLOBS_MAX)
  if (mark !== undefined && mark !== id) {
    const isNew = sharesFolder && !hasMarkedStore && keys.length === 0
    if (!isNew || (await firstObjects(store)).length > 0) throw wrongStore(store, mark, id)
  }
  // Once a store is marked, one without a mark may be an unfinished copy.
  const wanted = hasMarkedStore ? keys.length : Math.min(1, keys.length)
  const present = await countPresent(store, keys, wanted)
  if (present < wanted) throw blobsMissing(store, id)
  if (keys.length === 0) {
    const objects = await firstObjects(store)
    if (objects.length === 0 && hasMarkedStore && mark === undefined) throw noMark(store, id)
    if (objects.length > 0 && !(await isReferenced(db, objects))) {
      throw bytesOfOthers(store, objects, id)
    }
  }
  if (mark !== id) await store.writeMark(id)
  await recordStoreMarked(db)
}

/** Counts the keys that the store has, until there are `wanted` or one is missing that is needed for so many. */
async function countPresent(
  store: BlobStore,
  keys: readonly string[],
  wanted: number,
): Promise<number> {
  let present = 0
  for (const [index, key] of keys.entries()) {
    if (present >= wanted || present + keys.length - index < wanted) break
    if ((await store.stat(key)) !== undefined) present += 1
  }
  return present
}

async function firstObjects(store: BlobStore): Promise<StoredObject[]> {
  const found: StoredObject[] = []
  for await (const object of store.list('')) {
    found.push(object)
    if (found.length === SAMPLED_OBJECTS_MAX) break
  }
  return found
}

async function isReferenced(db: Database, objects: readonly StoredObject[]): Promise<boolean> {
  const present = <T>(values: (T | undefined)[]) => values.filter((value) => value !== undefined)
  const { keys, uploads } = await findReferenced(
    db,
    present(objects.map(({ key }) => key)),
    present(objects.map(({ upload }) => upload)),
  )
  return keys.size + uploads.size > 0
}

const REMEDY =
  'check ROOKERY_DATA_DIR or ROOKERY_S3_BUCKET and ROOKERY_S3_PREFIX, ROOKERY_DATABASE_URL, and that the disk is mounted'

const BY_HAND =
  'if the bytes of the right store are lost, write the id into the file or object blobs/installation'

function wrongStore(store: BlobStore, mark: string, id: string): StartError {
  return new StartError(`${wrongMarkText(store.location, mark, id)}: ${REMEDY}`)
}

function blobsMissing({ location }: BlobStore, id: string): StartError {
  return new StartError(
    `${location} has no mark of an installation, and blobs of the database (installation ${id}) are missing there: ${REMEDY}; ${BY_HAND}`,
  )
}

function noMark({ location }: BlobStore, id: string): StartError {
  return new StartError(
    `${location} is empty, and the database (installation ${id}) already has another store: ${REMEDY}; rookery storage copy moves to another store; ${BY_HAND}`,
  )
}

function bytesOfOthers(
  { location }: BlobStore,
  [first]: readonly StoredObject[],
  id: string | undefined,
): StartError {
  const name = id === undefined ? '' : ` (installation ${id})`
  return new StartError(
    `${location} has no mark of an installation, but bytes that the database${name} does not know, such as ${first?.name}: ${REMEDY}; a new registry needs an empty store`,
  )
}

/** Runs `work`; a store that does not answer becomes a StartError. */
async function withStartError<T>(store: BlobStore, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const isKnown = cause instanceof StoreUnavailableError || cause instanceof AlreadyRunningError
    const reason = isKnown ? cause.message : errnoOf(cause)
    if (reason === undefined || cause instanceof StartError) throw cause
    throw new StartError(`cannot check ${store.location}: ${reason}`, { cause })
  }
}
