import { createHash, type Hash } from 'node:crypto'
import { type Algorithm, type Digest, digestOfHash } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'

/** Bytes on their way in, and what the client said about them beforehand. */
export type UploadBody = {
  readonly bytes: AsyncIterable<Uint8Array>
  /** Where the client says that they begin, from Content-Range. */
  readonly start: number | undefined
  /** How many there are, from Content-Length or Content-Range. */
  readonly length: number | undefined
}

export type Counted = { received: number }

/** Passes bytes on while hashing them, and stops a body that is longer than it may be. */
export async function* hashStream(
  incoming: UploadBody,
  hash: Hash,
  counted: Counted,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  const { length } = incoming
  if (length !== undefined && length > bytesMax) throw blobTooLarge()
  for await (const chunk of incoming.bytes) {
    counted.received += chunk.length
    if (counted.received > bytesMax) throw blobTooLarge()
    if (length !== undefined && counted.received > length) throw sizeMismatch(length)
    hash.update(chunk)
    yield chunk
  }
  if (length !== undefined && counted.received !== length) throw sizeMismatch(length)
}

function blobTooLarge(): RegistryError {
  return new RegistryError('PAYLOAD_TOO_LARGE', undefined, {
    message: 'the blob is larger than this registry takes (ROOKERY_BLOB_BYTES_MAX)',
  })
}

function sizeMismatch(length: number): RegistryError {
  return new RegistryError('SIZE_INVALID', { expected: length })
}

/** Reads all of the bytes for their digest. */
export async function digestOfStream(
  bytes: AsyncIterable<Uint8Array>,
  algorithm: Algorithm,
): Promise<Digest> {
  const hash = createHash(algorithm)
  for await (const chunk of bytes) hash.update(chunk)
  return digestOfHash(algorithm, hash)
}

/** Reads all of the bytes for a hash in hexadecimal, also one that no digest may have. */
export async function hexHashOfStream(
  bytes: AsyncIterable<Uint8Array>,
  algorithm: string,
): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of bytes) hash.update(chunk)
  return hash.digest('hex')
}
