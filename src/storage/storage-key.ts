import { randomBytes } from 'node:crypto'
import { UUID_PATTERN } from '../oci/uuid.ts'

const WRITE = `${UUID_PATTERN}-[0-9a-f]{8}`
// The digest and the write, or only the write when the digest was not yet known. The first release wrote
// the short form.
const KEY = new RegExp(
  `^(?:(?:sha256|sha512)/[0-9a-f]{2}/[0-9a-f]{64,128}\\.(?:[0-9a-f]{16}|${WRITE})|written/[0-9a-f]{2}/${WRITE})$`,
)
const UPLOAD_OF_KEY = new RegExp(`(${UUID_PATTERN})-[0-9a-f]{8}$`)
const WRITE_BYTES = 4

/** The name of the mark beside the keys; no key is like it. */
export const MARK_NAME = 'installation'
/** The object that a start writes and removes to see that it may. It belongs to no upload, and no listing shows it. */
export const WRITE_CHECK_NAME = 'write-check'
/** A longer file or object with the name of the mark is none. */
export const MARK_BYTES_MAX = 256

/**
 * True for a key that one of the stores returned. Every store accepts the keys of the others, so blobs
 * can be copied from one store to another without a change in the database.
 */
export function isStorageKey(text: string): boolean {
  return KEY.test(text)
}

/** Returns a name that no other write has, of this upload or another. */
export function newWriteId(upload: string): string {
  return `${upload}-${randomBytes(WRITE_BYTES).toString('hex')}`
}

/** Returns the key of bytes whose digest is not known when they are written. */
export function keyOfWrite(write: string): string {
  return `written/${write.slice(0, 2)}/${write}`
}

/** Returns the id of the upload that wrote the key; undefined for keys of the first release. */
export function uploadIdOf(key: string): string | undefined {
  return UPLOAD_OF_KEY.exec(key)?.[1]
}
