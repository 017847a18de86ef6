import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { Digest } from '../../oci/digest.ts'
import {
  type Appended,
  BlobMissingError,
  type BlobStore,
  type ByteRange,
  type Stage,
  StageLostError,
  type StoredObject,
} from '../blob-store.ts'
import {
  isStorageKey,
  keyOfWrite,
  MARK_BYTES_MAX,
  MARK_NAME,
  WRITE_CHECK_NAME,
} from '../storage-key.ts'
import { Append, ObjectWriter } from './append.ts'
import { call, createClient, ObjectMissingError, type S3Settings } from './client.ts'
import { DownloadLinks } from './download-links.ts'
import { locationOf, ObjectListing } from './listing.ts'
import { observeCalls, type StoreCall } from './observe.ts'
import { PartBuffers } from './part-buffers.ts'
import { readObject } from './read-object.ts'
import { emptyStage, findStage, requireStage, type S3Stage, sizeOfStage, toStage } from './stage.ts'

export type { S3Settings } from './client.ts'

export type S3Options = S3Settings & {
  /** Whether downloads are redirected to the store. */
  readonly redirect: boolean
  /** The folder of parts that do not fit into memory. */
  readonly spoolFolder: string
  /** Called after each call of the store. */
  readonly onCall?: ((call: StoreCall) => void) | undefined
}

/** Load balancers do not wait longer for a health check. */
const CHECK_SECONDS_MAX = 5

/**
 * Stores blobs as objects: `<prefix>blobs/<key>`. A key names the write instead of the digest, because
 * the digest is known only after the bytes are written, and bytes are never copied.
 */
export class S3Store implements BlobStore {
  readonly #client: S3Client
  readonly #settings: S3Options
  readonly #writes: ObjectWriter
  readonly #listing: ObjectListing
  readonly #linker: DownloadLinks | undefined

  private constructor(client: S3Client, settings: S3Options, buffers: PartBuffers) {
    this.#client = client
    this.#settings = settings
    this.#writes = new ObjectWriter(client, settings, buffers)
    this.#listing = new ObjectListing(client, settings)
    this.#linker = settings.redirect ? new DownloadLinks(client, settings) : undefined
  }

  /** Throws StoreUnavailableError when the bucket is not writable. */
  static async open(settings: S3Options): Promise<S3Store> {
    const buffers = await PartBuffers.open(settings.spoolFolder)
    const client = createClient(settings)
    if (settings.onCall !== undefined) observeCalls(client, settings.onCall)
    const store = new S3Store(client, settings, buffers)
    await store.#probe()
    return store
  }

  /** Closes the connections. */
  close(): void {
    this.#client.destroy()
  }

  async stat(key: string): Promise<number | undefined> {
    const command = new HeadObjectCommand(this.#objectOf(key))
    try {
      const { ContentLength } = await this.#call((options) => this.#client.send(command, options))
      return ContentLength
    } catch (error) {
      if (error instanceof ObjectMissingError) return undefined
      throw error
    }
  }

  read(key: string, range: ByteRange): AsyncGenerator<Uint8Array> {
    const { timeoutSeconds } = this.#settings
    return readObject(
      { client: this.#client, object: this.#objectOf(key), key, timeoutSeconds },
      range,
    )
  }

  async link(key: string): Promise<string | undefined> {
    return this.#linker?.link(this.#objectOf(key).Key)
  }

  async remove(key: string): Promise<void> {
    requireStorageKey(key)
    await this.#removeObject(key)
  }

  async stage(id: string): Promise<Stage> {
    return toStage(emptyStage(id))
  }

  async append(
    stage: Stage,
    size: number,
    source: AsyncIterable<Uint8Array>,
    last: boolean,
  ): Promise<Appended> {
    const before = requireStage(stage, size)
    const chunks = source[Symbol.asyncIterator]()
    const first = await chunks.next()
    if (first.done === true && isWhole(before, last)) {
      await this.#assertTail(before, last)
      return { stage, size }
    }
    const append = new Append(this.#writes, before)
    try {
      await this.#addTail(append, before)
      for (let next = first; next.done !== true; next = await chunks.next()) {
        await append.add(next.value)
      }
      const after = await append.finish(last)
      const { needsCleanup } = append
      return { stage: toStage(after), size: sizeOfStage(after), needsCleanup }
    } catch (error) {
      await append.undo(error)
      await chunks.return?.()
      throw error
    }
  }

  async fence(stage: Stage, size: number): Promise<Stage> {
    // Every write makes an object of its own. A part that an earlier writer overwrites gets another ETag
    // than the recorded one: then the upload is lost at the end, and never has wrong bytes.
    requireStage(stage, size)
    return stage
  }

  async commit(stage: Stage, size: number, _digest: Digest): Promise<string> {
    const { multipart, parts, tail } = requireStage(stage, size)
    if (multipart === undefined) {
      if (tail === undefined) throw new StageLostError('nothing was appended to the upload')
      return tail.key
    }
    if (tail !== undefined) throw new Error('commit comes after the last append')
    await this.#writes.complete(multipart, parts)
    return multipart.key
  }

  async discard(stage: Stage, kept: Stage): Promise<void> {
    const { multipart, tail } = findStage(stage) ?? {}
    const still = findStage(kept)
    if (tail !== undefined && tail.key !== still?.tail?.key) await this.remove(tail.key)
    if (multipart !== undefined && multipart.uploadId !== still?.multipart?.uploadId) {
      await this.#writes.abort(multipart)
    }
  }

  async cleanUp(
    upload: string,
    _digest: Digest | undefined,
    keptKey: string | undefined,
  ): Promise<void> {
    for await (const object of this.#listing.list('', keyOfWrite(upload))) {
      if (object.key === undefined || object.key !== keptKey) await this.removeObject(object)
    }
  }

  async put(key: string, source: AsyncIterable<Uint8Array>): Promise<void> {
    const append = new Append(this.#writes, emptyStage(randomUUID()), key)
    try {
      for await (const chunk of source) await append.add(chunk)
      await append.keep()
    } catch (error) {
      await append.undo(error)
      throw error
    }
  }

  list(after: string): AsyncGenerator<StoredObject> {
    return this.#listing.list(after)
  }

  async removeObject(object: StoredObject): Promise<void> {
    const { key, uploadId } = locationOf(object)
    if (uploadId !== undefined) await this.#writes.abort({ key, uploadId })
    else await this.#removeObject(key)
  }

  async check(): Promise<void> {
    const command = new HeadBucketCommand({ Bucket: this.#settings.bucket })
    const seconds = Math.min(CHECK_SECONDS_MAX, this.#settings.timeoutSeconds)
    await call(seconds, (options) => this.#client.send(command, options))
  }

  get location(): string {
    const { bucket, prefix } = this.#settings
    return prefix === '' ? `the bucket ${bucket}` : `the bucket ${bucket} below ${prefix}`
  }

  async readMark(): Promise<string | undefined> {
    const command = new GetObjectCommand(this.#writes.objectOf(MARK_NAME))
    const seconds = Math.min(CHECK_SECONDS_MAX, this.#settings.timeoutSeconds)
    try {
      return await call(seconds, async (options) => {
        const { Body, ContentLength = 0 } = await this.#client.send(command, options)
        if (ContentLength <= MARK_BYTES_MAX) return (await Body?.transformToString())?.trim() ?? ''
        ;(Body as IncomingMessage | undefined)?.destroy()
        return ''
      })
    } catch (error) {
      if (error instanceof ObjectMissingError) return undefined
      throw error
    }
  }

  async writeMark(mark: string): Promise<void> {
    await this.#writes.putObject(MARK_NAME, Buffer.from(`${mark}\n`))
  }

  // A bucket has no cheap sign by which another one would be noticed.
  expectMark(): void {}

  /**
   * Writes and removes an object, so that a wrong setting fails at the start. Its name is always the same: servers may
   * start at the same time, and one that is killed here leaves nothing that looks like a blob.
   */
  async #probe(): Promise<void> {
    await this.#writes.putObject(WRITE_CHECK_NAME, Buffer.from('can this bucket be written?\n'))
    await this.#removeObject(WRITE_CHECK_NAME)
  }

  async #addTail(append: Append, { tail }: S3Stage): Promise<void> {
    if (tail === undefined || tail.size === 0) return
    try {
      for await (const chunk of this.read(tail.key, { start: 0, end: tail.size - 1 })) {
        await append.add(chunk)
      }
    } catch (error) {
      if (error instanceof BlobMissingError) throw stageLost(error)
      throw error
    }
  }

  /** Throws StageLostError when the tail is missing: nothing is written that would notice it. */
  async #assertTail({ tail }: S3Stage, last: boolean): Promise<void> {
    if (!last || tail === undefined) return
    if ((await this.stat(tail.key)) !== tail.size) throw stageLost()
  }

  // Keys come from the database; the check keeps every object below the prefix anyway.
  #objectOf(key: string): { Bucket: string; Key: string } {
    requireStorageKey(key)
    return this.#writes.objectOf(key)
  }

  async #removeObject(key: string): Promise<void> {
    const command = new DeleteObjectCommand(this.#writes.objectOf(key))
    try {
      await this.#call((options) => this.#client.send(command, options))
    } catch (error) {
      if (!(error instanceof ObjectMissingError)) throw error
    }
  }

  #call<T>(send: (options: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    return call(this.#settings.timeoutSeconds, send)
  }
}

function requireStorageKey(key: string): void {
  if (!isStorageKey(key)) throw new Error(`not a storage key of this store: ${key}`)
}

/** True when an empty append would not change the stage. */
function isWhole({ multipart, tail }: S3Stage, last: boolean): boolean {
  if (!last) return true
  return multipart === undefined ? tail !== undefined : tail === undefined
}

function stageLost(cause?: unknown): StageLostError {
  return new StageLostError('the store lost the tail of the upload', { cause })
}
