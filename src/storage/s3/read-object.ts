import type { IncomingMessage } from 'node:http'
import { GetObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { BlobMissingError, type ByteRange, StoreUnavailableError } from '../blob-store.ts'
import { call, ObjectMissingError } from './client.ts'

/** Limit of consecutive resumes without a byte in between. */
const RESUMES_MAX = 3

export type ReadOptions = {
  readonly client: S3Client
  readonly object: { readonly Bucket: string; readonly Key: string }
  readonly key: string
  readonly timeoutSeconds: number
}

/**
 * Reads the bytes of `range`. When the connection breaks, another one resumes at the same byte. Throws
 * BlobMissingError, also for an object that is shorter than the range.
 */
export async function* readObject(
  options: ReadOptions,
  { start, end }: ByteRange,
): AsyncGenerator<Uint8Array> {
  let position = start
  let resumes = 0
  while (position <= end) {
    const body = await open(options, position, end)
    try {
      for await (const chunk of body) {
        position += (chunk as Uint8Array).length
        resumes = 0
        yield chunk as Uint8Array
      }
    } catch (cause) {
      resumes += 1
      if (resumes > RESUMES_MAX) {
        throw new StoreUnavailableError('the object store ended a download early', { cause })
      }
      continue
    } finally {
      body.destroy()
    }
    if (position <= end) throw missing(options.key)
  }
}

async function open(
  { client, object, key, timeoutSeconds }: ReadOptions,
  start: number,
  end: number,
): Promise<IncomingMessage> {
  const command = new GetObjectCommand({ ...object, Range: `bytes=${start}-${end}` })
  try {
    const { Body } = await call(timeoutSeconds, (abort) => client.send(command, abort))
    return Body as IncomingMessage
  } catch (error) {
    if (error instanceof ObjectMissingError) throw missing(key, error)
    throw error
  }
}

function missing(key: string, cause?: unknown): BlobMissingError {
  return new BlobMissingError(`storage has no ${key}`, { cause })
}
