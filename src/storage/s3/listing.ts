import {
  ListMultipartUploadsCommand,
  type ListMultipartUploadsCommandOutput,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3'
import type { StoredObject } from '../blob-store.ts'
import { isStorageKey, MARK_NAME, uploadIdOf, WRITE_CHECK_NAME } from '../storage-key.ts'
import { call, type S3Settings } from './client.ts'

const OBJECT = 'object '
const MULTIPART = 'multipart '
const PAGES_MAX = 10_000_000

/** Lists objects, and then unfinished multipart uploads. */
export class ObjectListing {
  readonly #client: S3Client
  readonly #settings: S3Settings
  readonly #prefix: string

  constructor(client: S3Client, settings: S3Settings) {
    this.#client = client
    this.#settings = settings
    this.#prefix = `${settings.prefix}blobs/`
  }

  /** Lists everything after the name `after`, or only keys that begin with `below`. */
  async *list(after: string, below = ''): AsyncGenerator<StoredObject> {
    if (!after.startsWith(MULTIPART)) yield* this.#objects(after.slice(OBJECT.length), below)
    yield* this.#multiparts(after.startsWith(MULTIPART) ? after.slice(MULTIPART.length) : '', below)
  }

  async *#objects(after: string, below: string): AsyncGenerator<StoredObject> {
    let token: string | undefined
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const command = new ListObjectsV2Command({
        Bucket: this.#settings.bucket,
        Prefix: this.#prefix + below,
        ...(after === '' ? {} : { StartAfter: this.#prefix + after }),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      })
      const answer: ListObjectsV2CommandOutput = await this.#call((options) =>
        this.#client.send(command, options),
      )
      for (const { Key = '', Size, LastModified } of answer.Contents ?? []) {
        const key = Key.slice(this.#prefix.length)
        if (key === MARK_NAME || key === WRITE_CHECK_NAME) continue
        yield storedObject(`${OBJECT}${key}`, key, Size, LastModified)
      }
      token = answer.NextContinuationToken
      if (token === undefined) return
    }
  }

  async *#multiparts(after: string, below: string): AsyncGenerator<StoredObject> {
    const [afterKey = '', afterId = ''] = after.split(' ')
    let [keyMarker, idMarker]: (string | undefined)[] = [
      afterKey === '' ? undefined : this.#prefix + afterKey,
      afterId === '' ? undefined : afterId,
    ]
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const command = new ListMultipartUploadsCommand({
        Bucket: this.#settings.bucket,
        Prefix: this.#prefix + below,
        ...(keyMarker === undefined ? {} : { KeyMarker: keyMarker }),
        ...(idMarker === undefined ? {} : { UploadIdMarker: idMarker }),
      })
      const answer: ListMultipartUploadsCommandOutput = await this.#call((options) =>
        this.#client.send(command, options),
      )
      for (const { Key = '', UploadId = '', Initiated } of answer.Uploads ?? []) {
        const key = Key.slice(this.#prefix.length)
        yield {
          ...storedObject(`${MULTIPART}${key} ${UploadId}`, key, undefined, Initiated),
          key: undefined,
        }
      }
      // Some servers report a further page without a marker for it.
      if (answer.IsTruncated !== true || !answer.NextKeyMarker) return
      keyMarker = answer.NextKeyMarker
      idMarker = answer.NextUploadIdMarker
    }
  }

  #call<T>(send: (options: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    return call(this.#settings.timeoutSeconds, send)
  }
}

/** Returns the key of an object, or the key and id of a multipart upload. */
export function locationOf({ name }: StoredObject): { key: string; uploadId: string | undefined } {
  const [kind, key = '', uploadId] = name.split(' ')
  return { key, uploadId: `${kind} ` === MULTIPART ? uploadId : undefined }
}

function storedObject(
  name: string,
  key: string,
  size: number | undefined,
  at: Date | undefined,
): StoredObject {
  return {
    name,
    key: isStorageKey(key) ? key : undefined,
    upload: uploadIdOf(key),
    size,
    modifiedAt: at ?? new Date(0),
  }
}
