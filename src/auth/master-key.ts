import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, link, open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { errnoOf } from '../async/errno.ts'

const KEY_BYTES = 32
const OWNER_ONLY = 0o600
const OTHERS = 0o007
const ENCODED = /^[A-Za-z0-9+/_-]{43}=?$/
// A random key of 32 bytes has hardly ever fewer than 24 different ones.
const DIFFERENT_BYTES_MIN = 16
const FILE_BYTES_MAX = 4096

/** What is wrong with the master key, in one line that says what to do. */
export class MasterKeyError extends Error {
  override readonly name = 'MasterKeyError'
}

/** Encrypts what Postgres keeps and nobody else may read: JWE, A256GCM (RFC 7516). */
export class MasterKey {
  readonly #key: Uint8Array

  constructor(key: Uint8Array) {
    this.#key = key
  }

  async encrypt(plaintext: string): Promise<string> {
    return new CompactEncrypt(Buffer.from(plaintext))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .encrypt(this.#key)
  }

  /** Undefined when it was encrypted with another key, or was changed. */
  async decrypt(jwe: string): Promise<string | undefined> {
    try {
      const { plaintext } = await compactDecrypt(jwe, this.#key, {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
      })
      return Buffer.from(plaintext).toString('utf8')
    } catch {
      // The library does not say which of the two it was, on purpose.
      return undefined
    }
  }
}

/**
 * Reads the key: 32 random bytes in base64 in a file that only its owner reads. Without a file one
 * is made, unless `mayMake` is false. Throws MasterKeyError.
 */
export async function openMasterKey(file: string, mayMake: boolean): Promise<MasterKey> {
  const text = await readKey(file)
  if (text !== undefined) return new MasterKey(checkKey(file, text))
  if (!mayMake) {
    throw new MasterKeyError(
      `${file} is missing, and the database has keys that were encrypted with it: put the file back, set ROOKERY_MASTER_KEY_FILE to where it is, or make new keys with: rookery keys rotate --now`,
    )
  }
  await writeKey(file, `${randomBytes(KEY_BYTES).toString('base64')}\n`)
  return new MasterKey(checkKey(file, (await readKey(file)) ?? ''))
}

async function readKey(file: string): Promise<string | undefined> {
  try {
    const { mode, size } = await stat(file)
    if ((mode & OTHERS) !== 0) {
      throw new MasterKeyError(
        `${file} can be read by everybody on this machine: it is no secret any more. If nobody did, chmod 600 it; otherwise remove it and run: rookery keys rotate --now`,
      )
    }
    if (size > FILE_BYTES_MAX) throw malformed(file)
    return await readFile(file, 'utf8')
  } catch (error) {
    if (error instanceof MasterKeyError) throw error
    if (errnoOf(error) === 'ENOENT') return undefined
    throw new MasterKeyError(`cannot read ${file} (${String(errnoOf(error))})`, { cause: error })
  }
}

function checkKey(file: string, text: string): Uint8Array {
  const encoded = text.trim()
  if (!ENCODED.test(encoded)) throw malformed(file)
  const key = Buffer.from(encoded, 'base64')
  if (key.length !== KEY_BYTES) throw malformed(file)
  if (new Set(key).size < DIFFERENT_BYTES_MIN) {
    throw new MasterKeyError(
      `${file} holds a weak key, which is not random: make one with openssl rand -base64 32`,
    )
  }
  return key
}

function malformed(file: string): MasterKeyError {
  return new MasterKeyError(
    `${file} must hold 32 random bytes in base64, such as openssl rand -base64 32 prints`,
  )
}

/** Of processes that start at once, one puts the file there, whole; the others read that one. */
async function writeKey(file: string, text: string): Promise<void> {
  const aside = `${file}.${randomUUID()}`
  try {
    await writeFile(aside, text, { mode: OWNER_ONLY, flag: 'wx', flush: true })
    await chmod(aside, OWNER_ONLY)
    await link(aside, file).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error
    })
    await unlink(aside)
    const folder = await open(dirname(file), 'r')
    await folder.sync().finally(() => folder.close())
  } catch (cause) {
    throw new MasterKeyError(`cannot write ${file} (${String(errnoOf(cause))})`, { cause })
  }
}
