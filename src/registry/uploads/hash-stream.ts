import { createHash, type Hash } from 'node:crypto'
import { type Algorithm, type Digest, digestOfHash } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'

/** The body of an upload request, with the client's claims about it. */
export type UploadBody = {
  readonly bytes: AsyncIterable<Uint8Array>
  /** Position of the first byte in the upload, from Content-Range. */
  readonly start: number | undefined
  /** Count of bytes, from Content-Length or Content-Range. */
  readonly length: number | undefined
}

/** Counts the bytes that have arrived. */
export type ByteCounter = { received: number }

/** Yields the body's chunks while hashing them. Throws PAYLOAD_TOO_LARGE, and SIZE_INVALID for a wrong length. */
export async function* hashStream(
  body: UploadBody,
  hash: Hash,
  counter: ByteCounter,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  const { length } = body
  if (length !== undefined && length > bytesMax) throw blobTooLarge()
  for await (const chunk of body.bytes) {
    counter.received += chunk.length
    if (counter.received > bytesMax) throw blobTooLarge()
    if (length !== undefined && counter.received > length) throw sizeMismatch(length)
    hash.update(chunk)
    yield chunk
  }
  if (length !== undefined && counter.received !== length) throw sizeMismatch(length)
}

function blobTooLarge(): RegistryError {
  return new RegistryError('PAYLOAD_TOO_LARGE', undefined, {
    message: 'the blob is larger than ROOKERY_BLOB_BYTES_MAX',
  })
}

function sizeMismatch(length: number): RegistryError {
  const message = `the body must have the ${length} bytes that its headers state`
  return new RegistryError('SIZE_INVALID', { expected: length }, { message })
}

/** Reads all of the bytes and returns their digest. */
export async function digestOfStream(
  bytes: AsyncIterable<Uint8Array>,
  algorithm: Algorithm,
): Promise<Digest> {
  const hash = createHash(algorithm)
  for await (const chunk of bytes) hash.update(chunk)
  return digestOfHash(algorithm, hash)
}

/** Reads all of the bytes and returns their hash in hexadecimal, with any algorithm of Node. */
export async function hexHashOfStream(
  bytes: AsyncIterable<Uint8Array>,
  algorithm: string,
): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of bytes) hash.update(chunk)
  return hash.digest('hex')
}
