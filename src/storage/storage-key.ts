import { randomBytes } from 'node:crypto'

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
const WRITE = `${UUID}-[0-9a-f]{8}`
// A digest and the write, or the write alone where the digest was not known yet. The short form is
// what the first release wrote.
const KEY = new RegExp(
  `^(?:(?:sha256|sha512)/[0-9a-f]{2}/[0-9a-f]{64,128}\\.(?:[0-9a-f]{16}|${WRITE})|written/[0-9a-f]{2}/${WRITE})$`,
)
const UPLOAD_OF_KEY = new RegExp(`(${UUID})-[0-9a-f]{8}$`)
const WRITE_BYTES = 4

/**
 * True for what one of our stores gave as a key. Every store takes every store's keys, so that blobs
 * can be copied from one to another without a change in the database.
 */
export function isStorageKey(text: string): boolean {
  return KEY.test(text)
}

/** A name that no other write of this upload has, nor any other upload. */
export function newWriteId(upload: string): string {
  return `${upload}-${randomBytes(WRITE_BYTES).toString('hex')}`
}

/** The key of bytes whose digest is not known when they are written. */
export function keyOfWrite(write: string): string {
  return `written/${write.slice(0, 2)}/${write}`
}

/** The upload that wrote it; undefined for keys of the first release. */
export function uploadIdOf(key: string): string | undefined {
  return UPLOAD_OF_KEY.exec(key)?.[1]
}
