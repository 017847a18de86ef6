import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, copyFile, mkdir, open, rename, rm, stat, truncate } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { algorithmOf, type Digest, hexOf } from '../../oci/digest.ts'
import {
  type Appended,
  BlobMissing,
  type BlobStore,
  type ByteRange,
  type Stage,
  StageLost,
  StoreFull,
} from '../blob-store.ts'
import { readRange, syncFolder, writeFrom } from './files.ts'

const FILE_MODE = 0o600
const FOLDER_MODE = 0o700
const KEY = /^(?:sha256|sha512)\/[0-9a-f]{2}\/[0-9a-f]{64,128}\.[0-9a-f]{16}$/
const STAGE_FILE = /^[0-9a-f-]{36}$/
const GENERATION_BYTES = 8

/**
 * Blobs as files.
 *
 *     blobs/sha256/ab/abcd….0123456789abcdef     digest and generation
 *     uploads/0b5e8a0e-…                         stages
 *
 * Written aside, synced, renamed into place, and the folder synced: a commit survives a power cut.
 */
export class FilesystemStore implements BlobStore {
  readonly #blobs: string
  readonly #uploads: string
  readonly #folders = new Set<string>()

  private constructor(folder: string) {
    this.#blobs = join(folder, 'blobs')
    this.#uploads = join(folder, 'uploads')
  }

  /** Makes the folders that lack. */
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
    const missing = (cause?: unknown) => new BlobMissing(`storage has no ${key}`, { cause })
    try {
      yield* readRange(this.#blobPath(key), range, missing)
    } catch (error) {
      throw isMissing(error) ? missing(error) : error
    }
  }

  async remove(key: string): Promise<void> {
    await rm(this.#blobPath(key), { force: true })
  }

  async stage(id: string): Promise<Stage> {
    return { file: id }
  }

  async append(stage: Stage, size: number, source: AsyncIterable<Uint8Array>): Promise<Appended> {
    const path = this.#stagePath(stage)
    if (size > 0) await this.#demand(path, size)
    try {
      const file = await open(path, constants.O_CREAT | constants.O_RDWR, FILE_MODE)
      try {
        const end = await writeFrom(file, size, source)
        await file.datasync()
        return { stage, size: end }
      } finally {
        await file.close()
      }
    } catch (error) {
      throw isFull(error) ? new StoreFull('no space left for blobs', { cause: error }) : error
    }
  }

  async *readStage(stage: Stage, size: number): AsyncGenerator<Uint8Array> {
    const path = this.#stagePath(stage)
    await this.#demand(path, size)
    if (size > 0) yield* readRange(path, { start: 0, end: size - 1 }, () => lost(stage))
  }

  async fence(stage: Stage, size: number, id: string): Promise<Stage> {
    const fenced = { file: id }
    if (size > 0) {
      await this.#demand(this.#stagePath(stage), size)
      await copyFile(
        this.#stagePath(stage),
        this.#stagePath(fenced),
        constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL,
      )
      await truncateSynced(this.#stagePath(fenced), size)
    }
    return fenced
  }

  async commit(stage: Stage, size: number, digest: Digest): Promise<string> {
    const path = this.#stagePath(stage)
    const found = await this.#demand(path, size)
    // An append that failed half-way may have left bytes behind those that count.
    if (found > size) await truncateSynced(path, size)
    const hex = hexOf(digest)
    const generation = randomBytes(GENERATION_BYTES).toString('hex')
    const key = `${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex}.${generation}`
    const target = this.#blobPath(key)
    await this.#ensureFolder(dirname(target))
    await rename(path, target)
    await syncFolder(dirname(target))
    return key
  }

  async discard(stage: Stage): Promise<void> {
    await rm(this.#stagePath(stage), { force: true })
  }

  async check(): Promise<void> {
    await access(this.#uploads, constants.W_OK)
    await access(this.#blobs, constants.W_OK)
  }

  /** The size of a stage that has at least `size` bytes. */
  async #demand(path: string, size: number): Promise<number> {
    const found = await sizeOf(path)
    if (found === undefined || found < size) {
      throw new StageLost(`the upload has ${found ?? 'no'} bytes on disk instead of ${size}`)
    }
    return found
  }

  /** Each new folder's name is synced into the folder above it, once. */
  async #ensureFolder(path: string): Promise<void> {
    if (this.#folders.has(path) || path === this.#blobs) return
    await this.#ensureFolder(dirname(path))
    await mkdir(path, { recursive: true, mode: FOLDER_MODE })
    await syncFolder(dirname(path))
    this.#folders.add(path)
  }

  // Keys and stages come out of the database, and still never lead out of the folder.
  #blobPath(key: string): string {
    if (!KEY.test(key)) throw new Error(`not a storage key of this store: ${key}`)
    return join(this.#blobs, key)
  }

  #stagePath(stage: Stage): string {
    const file = stage.file
    if (typeof file !== 'string' || !STAGE_FILE.test(file)) {
      throw new Error('not a stage of this store')
    }
    return join(this.#uploads, file)
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

async function truncateSynced(path: string, size: number): Promise<void> {
  await truncate(path, size)
  const file = await open(path, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

function lost(stage: Stage): StageLost {
  return new StageLost(`the upload ${String(stage.file)} lost bytes while it was read`)
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT'
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(String(codeOf(error)))
}
