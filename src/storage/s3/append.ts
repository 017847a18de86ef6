import { createHash } from 'node:crypto'
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { S3_PART_BYTES, S3_PARTS_MAX } from '../../config/limits.ts'
import { StageLostError } from '../blob-store.ts'
import { keyOfWrite, newWriteId } from '../storage-key.ts'
import { call, ObjectMissingError, type S3Settings } from './client.ts'
import { BufferedPart, type PartBuffers } from './part-buffers.ts'
import type { S3Stage, UploadedPart } from './stage.ts'

/** So many parts of one upload are on their way at once. */
const PARTS_IN_FLIGHT_MAX = 4
const CONTENT_TYPE = 'application/octet-stream'

type Multipart = NonNullable<S3Stage['multipart']>

/** The calls that write, on one bucket. */
export class ObjectWriter {
  readonly #client: S3Client
  readonly #settings: S3Settings
  readonly buffers: PartBuffers

  constructor(client: S3Client, settings: S3Settings, buffers: PartBuffers) {
    this.#client = client
    this.#settings = settings
    this.buffers = buffers
  }

  objectOf(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#settings.bucket, Key: `${this.#settings.prefix}blobs/${key}` }
  }

  async putObject(key: string, bytes: Buffer, signal?: AbortSignal): Promise<void> {
    const command = () =>
      new PutObjectCommand({ ...this.objectOf(key), Body: bytes, ContentType: CONTENT_TYPE })
    await this.#call((options) => this.#client.send(command(), options), signal)
  }

  /** `tries` above one mean that the store may have begun another one, whose name was lost. */
  async create(key: string): Promise<{ multipart: Multipart; tries: number }> {
    const command = new CreateMultipartUploadCommand({
      ...this.objectOf(key),
      ContentType: CONTENT_TYPE,
    })
    const answer = await this.#call((options) => this.#client.send(command, options))
    const { UploadId, $metadata } = answer
    if (UploadId === undefined) throw new Error('the store began an upload without a name')
    return { multipart: { key, uploadId: UploadId }, tries: $metadata.attempts ?? 1 }
  }

  /** Throws StageLostError when the multipart upload is gone. */
  async uploadPart(
    { key, uploadId }: Multipart,
    number: number,
    bytes: Buffer,
    signal: AbortSignal,
  ): Promise<UploadedPart> {
    const command = new UploadPartCommand({
      ...this.objectOf(key),
      UploadId: uploadId,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
    })
    try {
      const { ETag } = await this.#call((options) => this.#client.send(command, options), signal)
      if (ETag === undefined) throw new Error('the store took a part without an ETag')
      return [number, ETag]
    } catch (error) {
      if (error instanceof ObjectMissingError)
        throw new StageLostError('the store forgot the upload', { cause: error })
      throw error
    }
  }

  /** Throws StageLostError when the parts are not there as they were. */
  async complete({ key, uploadId }: Multipart, parts: readonly UploadedPart[]): Promise<void> {
    const command = new CompleteMultipartUploadCommand({
      ...this.objectOf(key),
      UploadId: uploadId,
      MultipartUpload: {
        Parts: parts.map(([PartNumber, ETag]) => ({ PartNumber, ETag })),
      },
    })
    try {
      await this.#call((options) => this.#client.send(command, options))
    } catch (error) {
      if (!(error instanceof ObjectMissingError)) throw error
      // A first try may have done it, and its answer been lost.
      if (await this.#isMadeOf(key, parts)) return
      throw new StageLostError('the store forgot parts of the upload', { cause: error })
    }
  }

  async abort({ key, uploadId }: Multipart): Promise<void> {
    const command = new AbortMultipartUploadCommand({ ...this.objectOf(key), UploadId: uploadId })
    try {
      await this.#call((options) => this.#client.send(command, options))
    } catch (error) {
      if (!(error instanceof ObjectMissingError)) throw error
    }
  }

  /** By the ETag of a multipart object: the MD5 of its parts' MD5s, and how many they are. */
  async #isMadeOf(key: string, parts: readonly UploadedPart[]): Promise<boolean> {
    const sums = parts.map(([, etag]) => Buffer.from(etag.replaceAll('"', ''), 'hex'))
    const sum = createHash('md5').update(Buffer.concat(sums)).digest('hex')
    const command = new HeadObjectCommand(this.objectOf(key))
    try {
      const { ETag } = await this.#call((options) => this.#client.send(command, options))
      return ETag?.replaceAll('"', '') === `${sum}-${parts.length}`
    } catch (error) {
      if (error instanceof ObjectMissingError) return false
      throw error
    }
  }

  #call<T>(
    send: (options: { abortSignal: AbortSignal }) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return call(this.#settings.timeoutSeconds, send, signal)
  }
}

/**
 * One append: cuts what comes into parts, several of them on their way at once, and keeps what is
 * left aside. Nothing of it counts before `finish` returned.
 */
export class Append {
  readonly #writes: ObjectWriter
  readonly #before: S3Stage
  readonly #key: string
  readonly #failed = new AbortController()
  readonly #flying = new Set<Promise<void>>()
  readonly #parts: UploadedPart[] = []
  #multipart: S3Stage['multipart']
  #nextPart: number
  #part: BufferedPart
  #failure: { error: unknown } | undefined
  /** True when the store may hold something that nobody has the name of. */
  needsCleanup = false

  /** `key` is of the object that a multipart upload makes, if it is this append that begins one. */
  constructor(writes: ObjectWriter, before: S3Stage, key = keyOfWrite(newWriteId(before.id))) {
    this.#writes = writes
    this.#before = before
    this.#key = key
    this.#multipart = before.multipart
    this.#nextPart = before.parts.length + 1
    this.#part = new BufferedPart(writes.buffers)
  }

  async add(chunk: Uint8Array): Promise<void> {
    let rest = chunk
    while (rest.length > 0) {
      if (this.#part.room === 0) await this.#send()
      const taken = rest.subarray(0, this.#part.room)
      await this.#part.add(taken)
      rest = rest.subarray(taken.length)
    }
  }

  /** The stage as it is now. With `last`, the rest is the last part and not a tail. */
  async finish(last: boolean): Promise<S3Stage> {
    const rest = this.#part.size
    // A part that is just full is one; only the end of a blob may be shorter.
    const toMultipart =
      rest === S3_PART_BYTES || (last && this.#multipart !== undefined && rest > 0)
    if (toMultipart) await this.#send()
    while (this.#flying.size > 0) await Promise.all(this.#flying)
    this.#throwFailure()
    let tail: S3Stage['tail']
    if (!toMultipart && (rest > 0 || (last && this.#multipart === undefined))) {
      const key = keyOfWrite(newWriteId(this.#before.id))
      await this.#part.carry((bytes) => this.#writes.putObject(key, bytes))
      tail = { key, size: rest }
    }
    await this.#part.release()
    const parts = [...this.#before.parts, ...this.#parts.sort(([a], [b]) => a - b)]
    return {
      id: this.#before.id,
      multipart: this.#multipart,
      parts,
      short: toMultipart ? S3_PART_BYTES - rest : 0,
      tail,
    }
  }

  /** Ends an append that was all of an object, under the key that it was begun for. */
  async keep(): Promise<void> {
    if (this.#multipart === undefined && this.#part.room > 0) {
      await this.#part.carry((bytes) => this.#writes.putObject(this.#key, bytes))
      await this.#part.release()
      return
    }
    const { multipart, parts } = await this.finish(true)
    if (multipart !== undefined) await this.#writes.complete(multipart, parts)
  }

  /** Stops what is on its way, and removes what only this append began. */
  async undo(reason: unknown): Promise<void> {
    this.#failed.abort(reason)
    await this.#part.release()
    while (this.#flying.size > 0) await Promise.all(this.#flying)
    if (this.#multipart !== undefined && this.#before.multipart === undefined) {
      // What stays is found by a scrub; why the append failed matters more.
      await this.#writes.abort(this.#multipart).catch(() => {})
    }
  }

  async #send(): Promise<void> {
    while (this.#flying.size >= PARTS_IN_FLIGHT_MAX) await Promise.race(this.#flying)
    this.#throwFailure()
    if (this.#multipart === undefined) {
      const { multipart, tries } = await this.#writes.create(this.#key)
      this.#multipart = multipart
      this.needsCleanup ||= tries > 1
    }
    const [multipart, number, part] = [this.#multipart, this.#nextPart, this.#part]
    if (number > S3_PARTS_MAX)
      throw new StageLostError(`an upload has at most ${S3_PARTS_MAX} parts`)
    this.#nextPart += 1
    this.#part = new BufferedPart(this.#writes.buffers)
    const flight = this.#carry(multipart, number, part).finally(() => this.#flying.delete(flight))
    this.#flying.add(flight)
  }

  /** Never rejects: a failure is met by whoever sends or finishes next. */
  async #carry(multipart: Multipart, number: number, part: BufferedPart): Promise<void> {
    try {
      const { signal } = this.#failed
      const mark = await part.carry((bytes) =>
        this.#writes.uploadPart(multipart, number, bytes, signal),
      )
      this.#parts.push(mark)
      await part.release()
    } catch (error) {
      this.#fail(error)
      await part.release().catch(() => {})
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#failed.abort(error)
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
