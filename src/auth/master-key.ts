import { hkdfSync, randomBytes, randomUUID } from 'node:crypto'
import { chmod, link, open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { errnoOf } from '../async/errno.ts'

const KEY_BYTES = 32
const OWNER_ONLY = 0o600
const OTHERS = 0o007
const ROOT = 0
const ENCODED = /^[A-Za-z0-9+/_-]{43}=?$/
// 32 random bytes almost always have at least 24 different values.
const DIFFERENT_BYTES_MIN = 16
const FILE_BYTES_MAX = 4096

/** An unusable master key. The message says what is wrong and what to do, in one line. */
export class MasterKeyError extends Error {
  override readonly name = 'MasterKeyError'
}

/** Encrypts secrets that are stored in Postgres: JWE, A256GCM (RFC 7516). */
export class MasterKey {
  readonly #key: Uint8Array

  constructor(key: Uint8Array) {
    this.#key = key
  }

  /** Derives a key for another purpose, 32 bytes: HKDF with SHA-256 (RFC 5869). */
  derive(purpose: string): Uint8Array {
    return new Uint8Array(hkdfSync('sha256', this.#key, '', purpose, KEY_BYTES))
  }

  async encrypt(plaintext: string): Promise<string> {
    return new CompactEncrypt(Buffer.from(plaintext))
      .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .encrypt(this.#key)
  }

  /** Returns undefined when the text was encrypted with another key, or was changed. */
  async decrypt(jwe: string): Promise<string | undefined> {
    try {
      const { plaintext } = await compactDecrypt(jwe, this.#key, {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
      })
      return Buffer.from(plaintext).toString('utf8')
    } catch {
      // The library does not reveal which of the two it was, on purpose.
      return undefined
    }
  }
}

/**
 * Reads the master key: 32 random bytes in base64, in a file that only its owner can read. A missing file is
 * created, unless `mayCreate` is false. Throws MasterKeyError.
 */
export async function openMasterKey(file: string, mayCreate: boolean): Promise<MasterKey> {
  const text = await readKey(file)
  if (text !== undefined) return new MasterKey(checkKey(file, text))
  if (!mayCreate) {
    throw new MasterKeyError(
      `${file} is missing, and the database has keys that were encrypted with it: restore the file, set ROOKERY_MASTER_KEY_FILE to its path, or create new keys with: rookery key rotate --now`,
    )
  }
  await writeKey(file, `${randomBytes(KEY_BYTES).toString('base64')}\n`)
  return new MasterKey(checkKey(file, (await readKey(file)) ?? ''))
}

async function readKey(file: string): Promise<string | undefined> {
  try {
    const { mode, size, uid } = await stat(file)
    if (process.getuid?.() === ROOT && uid !== ROOT) {
      throw new MasterKeyError(
        `${file} belongs to uid ${uid}, who could exchange it, and this is root: run rookery as that user, or run chown root on it`,
      )
    }
    if ((mode & OTHERS) !== 0) {
      throw new MasterKeyError(
        `${file} is readable by every user of this machine, so its key is not secret. If nobody has read it, run chmod 600 on it; otherwise remove it and run: rookery key rotate --now`,
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
      `${file} has a weak key that is not random: create one with openssl rand -base64 32`,
    )
  }
  return key
}

function malformed(file: string): MasterKeyError {
  return new MasterKeyError(
    `${file} must have 32 random bytes in base64, such as openssl rand -base64 32 prints`,
  )
}

/** Creates the file atomically: when several processes start at once, one creates it, and the others read it. */
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
