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

/** Parts of one upload that are sent at once. */
const PARTS_IN_FLIGHT_MAX = 4
const CONTENT_TYPE = 'application/octet-stream'

type Multipart = NonNullable<S3Stage['multipart']>

/** The calls that write to one bucket. */
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

  /** Begins a multipart upload. After more than one attempt, the store may have begun another one with a lost id. */
  async create(key: string): Promise<{ multipart: Multipart; attempts: number }> {
    const command = new CreateMultipartUploadCommand({
      ...this.objectOf(key),
      ContentType: CONTENT_TYPE,
    })
    const answer = await this.#call((options) => this.#client.send(command, options))
    const { UploadId, $metadata } = answer
    if (UploadId === undefined) throw new Error('the store began a multipart upload without an id')
    return { multipart: { key, uploadId: UploadId }, attempts: $metadata.attempts ?? 1 }
  }

  /** Sends one part. Throws StageLostError when the multipart upload does not exist. */
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
      if (ETag === undefined) throw new Error('the store accepted a part without an ETag')
      return [number, ETag]
    } catch (error) {
      if (error instanceof ObjectMissingError)
        throw new StageLostError('the store no longer has the upload', { cause: error })
      throw error
    }
  }

  /** Makes the object from its parts. Throws StageLostError when parts are missing or changed. */
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
      // An earlier attempt may have succeeded although its response was lost.
      if (await this.#isMadeOf(key, parts)) return
      throw new StageLostError('the store no longer has all parts of the upload', { cause: error })
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

  /** Compares the ETag of a multipart object: the MD5 of its parts' MD5s, and their count. */
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
 * One append: splits the bytes into parts, sends several parts at once, and stores the rest as the tail.
 * Nothing is appended before `finish` returns.
 */
export class Append {
  readonly #writes: ObjectWriter
  readonly #before: S3Stage
  readonly #key: string
  readonly #failed = new AbortController()
  readonly #inFlight = new Set<Promise<void>>()
  readonly #parts: UploadedPart[] = []
  #multipart: S3Stage['multipart']
  #nextPart: number
  #part: BufferedPart
  #failure: { error: unknown } | undefined
  /** True when the store may hold a multipart upload whose id was lost. */
  needsCleanup = false

  /** `key` is the key of the object, if this append begins a multipart upload. */
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

  /** Returns the stage after the append. With `last`, the rest becomes the last part instead of a tail. */
  async finish(last: boolean): Promise<S3Stage> {
    const rest = this.#part.size
    // A full part is sent as a part; only the last part of a blob may be shorter.
    const toMultipart =
      rest === S3_PART_BYTES || (last && this.#multipart !== undefined && rest > 0)
    if (toMultipart) await this.#send()
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight)
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

  /** Ends an append that has all bytes of an object, and stores it under the constructor's key. */
  async keep(): Promise<void> {
    if (this.#multipart === undefined && this.#part.room > 0) {
      await this.#part.carry((bytes) => this.#writes.putObject(this.#key, bytes))
      await this.#part.release()
      return
    }
    const { multipart, parts } = await this.finish(true)
    if (multipart !== undefined) await this.#writes.complete(multipart, parts)
  }

  /** Stops the parts in flight, and aborts a multipart upload that this append began. */
  async undo(reason: unknown): Promise<void> {
    this.#failed.abort(reason)
    await this.#part.release()
    while (this.#inFlight.size > 0) await Promise.all(this.#inFlight)
    if (this.#multipart !== undefined && this.#before.multipart === undefined) {
      // A scrub finds what stays. The error of the append is more important than an error here.
      await this.#writes.abort(this.#multipart).catch(() => {})
    }
  }

  async #send(): Promise<void> {
    while (this.#inFlight.size >= PARTS_IN_FLIGHT_MAX) await Promise.race(this.#inFlight)
    this.#throwFailure()
    if (this.#multipart === undefined) {
      const { multipart, attempts } = await this.#writes.create(this.#key)
      this.#multipart = multipart
      this.needsCleanup ||= attempts > 1
    }
    const [multipart, number, part] = [this.#multipart, this.#nextPart, this.#part]
    if (number > S3_PARTS_MAX)
      throw new StageLostError(`an upload has at most ${S3_PARTS_MAX} parts`)
    this.#nextPart += 1
    this.#part = new BufferedPart(this.#writes.buffers)
    const sending = this.#carry(multipart, number, part).finally(() =>
      this.#inFlight.delete(sending),
    )
    this.#inFlight.add(sending)
  }

  /** Never rejects: the next `#send` or `finish` throws the failure. */
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
