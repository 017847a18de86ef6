import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import {
  access,
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
} from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { algorithmOf, type Digest, hexOf } from '../../oci/digest.ts'
import {
  type Appended,
  BlobMissingError,
  type BlobStore,
  type ByteRange,
  type Stage,
  StageLostError,
  type StoredObject,
  StoreFullError,
  StoreUnavailableError,
} from '../blob-store.ts'
import { isStorageKey, MARK_BYTES_MAX, MARK_NAME, newWriteId } from '../storage-key.ts'
import { isFull, isMissing, isNoFile } from '../system-errors.ts'
import { readRange, syncFolder, writeFrom } from './files.ts'
import { listFiles } from './listing.ts'

const FILE_MODE = 0o600
const FOLDER_MODE = 0o700
// The id of the upload, and for a fenced stage a suffix that distinguishes it from the previous one.
const STAGE_FILE = /^[0-9a-f-]{36}(?:-[0-9a-f]{8})?$/
const UPLOAD_CHARACTERS = 36

/**
 * Stores blobs as files.
 *
 *     blobs/sha256/ab/abcd….0b5e8a0e-…     the digest and the write
 *     blobs/installation                   the mark
 *     uploads/0b5e8a0e-…                   stages
 *
 * A commit survives a power cut: the bytes are written aside and synced, the file is renamed into place,
 * and the folder is synced.
 */
export class FilesystemStore implements BlobStore {
  readonly #folder: string
  readonly #blobs: string
  readonly #uploads: string
  readonly #folders = new Set<string>()
  readonly #markPath: string
  #expected: { readonly mark: string; file: string | undefined } | undefined

  private constructor(folder: string) {
    this.#folder = folder
    this.#blobs = join(folder, 'blobs')
    this.#uploads = join(folder, 'uploads')
    this.#markPath = join(this.#blobs, MARK_NAME)
  }

  /** Opens the store to read it: a missing folder has nothing. */
  static at(folder: string): FilesystemStore {
    return new FilesystemStore(resolve(folder))
  }

  /** Opens the store, and creates missing folders. */
  static async open(folder: string): Promise<FilesystemStore> {
    const store = new FilesystemStore(resolve(folder))
    await mkdir(store.#uploads, { recursive: true, mode: FOLDER_MODE })
    await mkdir(store.#blobs, { recursive: true, mode: FOLDER_MODE })
    await syncFolder(resolve(folder))
    return store
  }

  async stat(key: string): Promise<number | undefined> {
    return sizeOf(this.#blobPath(key))
  }

  async *read(key: string, range: ByteRange): AsyncGenerator<Uint8Array> {
    const missing = (cause?: unknown) => new BlobMissingError(`storage has no ${key}`, { cause })
    try {
      yield* readRange(this.#blobPath(key), range, missing)
    } catch (error) {
      throw isMissing(error) ? missing(error) : error
    }
  }

  async link(): Promise<undefined> {
    return undefined
  }

  async remove(key: string): Promise<void> {
    await rm(this.#blobPath(key), { force: true })
  }

  async stage(id: string): Promise<Stage> {
    return { file: id }
  }

  async append(stage: Stage, size: number, source: AsyncIterable<Uint8Array>): Promise<Appended> {
    const path = this.#requireStagePath(stage)
    if (size > 0) await this.#requireSize(path, size)
    try {
      const file = await open(path, constants.O_CREAT | constants.O_RDWR, FILE_MODE)
      try {
        const end = await writeFrom(file, size, source)
        await file.datasync()
        return { stage, size: end }
      } catch (error) {
        // Frees the space for others. The error of the append is more important than an error here.
        await file.truncate(size).catch(() => {})
        throw error
      } finally {
        await file.close()
      }
    } catch (error) {
      if (isFull(error)) throw new StoreFullError('no space left for blobs', { cause: error })
      throw isMissing(error) ? this.#folderMissing(error) : error
    }
  }

  async fence(stage: Stage, size: number): Promise<Stage> {
    const path = this.#requireStagePath(stage)
    const fenced = { file: newWriteId(uploadOfStage(stage)) }
    if (size > 0) {
      await this.#requireSize(path, size)
      await copyFile(
        path,
        this.#requireStagePath(fenced),
        constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL,
      )
      await truncateSynced(this.#requireStagePath(fenced), size)
    }
    return fenced
  }

  async commit(stage: Stage, size: number, digest: Digest): Promise<string> {
    const path = this.#requireStagePath(stage)
    const [found] = await Promise.all([this.#requireSize(path, size), this.#assertExpected()])
    // A failed append may have left bytes after the acknowledged ones.
    if (found > size) await truncateSynced(path, size)
    const hex = hexOf(digest)
    const write = newWriteId(uploadOfStage(stage))
    const key = `${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex}.${write}`
    await this.#moveIntoPlace(path, key)
    return key
  }

  async discard(stage: Stage, kept: Stage): Promise<void> {
    const path = this.#stagePath(stage)
    if (path !== undefined && stage.file !== kept.file) await rm(path, { force: true })
  }

  async cleanUp(
    upload: string,
    digest: Digest | undefined,
    keptKey: string | undefined,
  ): Promise<void> {
    await removeBeginning(this.#uploads, upload)
    if (digest === undefined) return
    // A commit that was never recorded left a file named by the digest.
    const hex = hexOf(digest)
    const folder = join(this.#blobs, algorithmOf(digest), hex.slice(0, 2))
    await removeBeginning(folder, `${hex}.${upload}-`, keptKey?.split('/').at(-1))
  }

  async put(key: string, source: AsyncIterable<Uint8Array>): Promise<void> {
    if (!isStorageKey(key)) throw notKey(key)
    const stage = await this.stage(randomUUID())
    try {
      await this.append(stage, 0, source)
      await this.#moveIntoPlace(this.#requireStagePath(stage), key)
    } catch (error) {
      await rm(this.#requireStagePath(stage), { force: true })
      throw error
    }
  }

  list(after: string): AsyncGenerator<StoredObject> {
    return listFiles(this.#folder, ['blobs', 'uploads'], after)
  }

  async removeObject({ name }: StoredObject): Promise<void> {
    await rm(join(this.#folder, name), { force: true })
  }

  async check(): Promise<void> {
    await access(this.#uploads, constants.W_OK)
    await access(this.#blobs, constants.W_OK)
  }

  get location(): string {
    return `the folder ${this.#blobs}`
  }

  async readMark(): Promise<string | undefined> {
    try {
      const { size } = await stat(this.#markPath)
      return size > MARK_BYTES_MAX ? '' : (await readFile(this.#markPath, 'utf8')).trim()
    } catch (error) {
      if (isNoFile(error)) return undefined
      throw error
    }
  }

  async writeMark(mark: string): Promise<void> {
    const aside = join(this.#uploads, randomUUID())
    const file = await open(aside, constants.O_CREAT | constants.O_WRONLY, FILE_MODE)
    try {
      await file.writeFile(`${mark}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(aside, this.#markPath)
    await syncFolder(this.#blobs)
  }

  expectMark(mark: string): void {
    this.#expected = { mark, file: undefined }
  }

  /** Throws StoreUnavailableError when the mark is missing or another: the disk was unmounted or replaced. */
  async #assertExpected(): Promise<void> {
    const expected = this.#expected
    if (expected === undefined) return
    const file = await identityOf(this.#markPath)
    if (file !== undefined && file === expected.file) return
    const mark = await this.readMark()
    if (mark !== expected.mark) throw this.#folderMissing()
    expected.file = file
  }

  #folderMissing(cause?: unknown): StoreUnavailableError {
    const message = `${this.location} is not the one that was opened: is its disk mounted?`
    return new StoreUnavailableError(message, { cause })
  }

  /** Returns the size of a stage. Throws StageLostError when it has less than `size` bytes. */
  async #requireSize(path: string, size: number): Promise<number> {
    const found = await sizeOf(path)
    if (found === undefined || found < size) {
      await this.#assertExpected()
      throw new StageLostError(`the upload has ${found ?? 'no'} bytes on disk instead of ${size}`)
    }
    return found
  }

  /** Creates a folder and its parents, and syncs each new name once. */
  async #ensureFolder(path: string): Promise<void> {
    if (this.#folders.has(path) || path === this.#blobs) return
    await this.#ensureFolder(dirname(path))
    await mkdir(path, { recursive: true, mode: FOLDER_MODE })
    await syncFolder(dirname(path))
    this.#folders.add(path)
  }

  async #moveIntoPlace(path: string, key: string): Promise<void> {
    const target = this.#blobPath(key)
    await this.#ensureFolder(dirname(target))
    try {
      await rename(path, target)
    } catch (error) {
      if (!isMissing(error)) throw error
      // Somebody removed the folder since it was made.
      this.#folders.clear()
      await this.#ensureFolder(dirname(target))
      await rename(path, target)
    }
    await syncFolder(dirname(target))
  }

  // Keys and stages come from the database; the check keeps every path inside the folder anyway.
  #blobPath(key: string): string {
    if (!isStorageKey(key)) throw notKey(key)
    return join(this.#blobs, key)
  }

  /** Returns undefined for a stage of another store. */
  #stagePath({ file }: Stage): string | undefined {
    if (typeof file !== 'string' || !STAGE_FILE.test(file)) return undefined
    return join(this.#uploads, file)
  }

  #requireStagePath(stage: Stage): string {
    const path = this.#stagePath(stage)
    if (path === undefined) throw new StageLostError('the upload began in another store')
    return path
  }
}

function notKey(key: string): Error {
  return new Error(`not a storage key of this store: ${key}`)
}

function uploadOfStage({ file }: Stage): string {
  return String(file).slice(0, UPLOAD_CHARACTERS)
}

/** Removes the folder's files whose names begin with `beginning`, except `kept`. */
async function removeBeginning(folder: string, beginning: string, kept?: string): Promise<void> {
  let names: string[] = []
  try {
    names = await readdir(folder)
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  for (const name of names) {
    if (name.startsWith(beginning) && name !== kept) await rm(join(folder, name), { force: true })
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

/** Distinguishes a file from another one that takes its place; undefined when it is missing. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, ctimeMs } = await stat(path)
    return `${dev} ${ino} ${ctimeMs}`
  } catch (error) {
    if (isNoFile(error)) return undefined
    throw error
  }
}

async function truncateSynced(path: string, size: number): Promise<void> {
  await truncate(path, size)
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
