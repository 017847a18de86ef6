import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { calculateJwkThumbprint, type JWK } from 'jose'
import { type Actor, recordChange } from '../db/auth/audit.ts'
import {
  addSigningKey,
  listSigningKeys,
  lockSigningKeys,
  type NewSigningKey,
  removeSigningKeys,
  type SigningAlgorithm,
  type SigningKeyRow,
} from '../db/auth/signing-keys.ts'
import type { Database, Transaction } from '../db/database.ts'
import { unavailable } from '../oci/errors.ts'
import {
  KEY_ACTIVATION_SECONDS,
  KEY_RETIRING_SECONDS,
  REVOCATION_KEPT_SECONDS,
} from './lifetimes.ts'
import { type MasterKey, MasterKeyError } from './master-key.ts'

export type { SigningAlgorithm }

/** A key pair of the registry, which signs and verifies its tokens. */
export type SigningKey = {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  readonly publicJwk: JWK
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
  readonly activeAt: Date
  readonly retiredAt: Date | null
  readonly goneAt: Date | null
}

/** `next`: published, signs later. `active`: signs. `retiring`: only verifies. `gone`: not trusted. */
export type SigningKeyState = 'next' | 'active' | 'retiring' | 'gone'

export type SigningKeySummary = {
  readonly kid: string
  readonly algorithm: SigningAlgorithm
  readonly state: SigningKeyState
  readonly createdAt: Date
  readonly activeAt: Date
  readonly goneAt: Date | null
}

/** A token may name a key that another replica has just created. The database is asked at most this often. */
const UNKNOWN_KEY_LOOKUP_MILLISECONDS = 1000
const RETRY_AFTER_SECONDS = 10

const generate = promisify(generateKeyPair)

/** The signing keys, as the database has them: the same on every replica. */
export class KeyRing {
  readonly #db: Database
  readonly #masterKey: MasterKey
  #keys = new Map<string, SigningKey>()
  #unknownKeyLookupAt = Number.NEGATIVE_INFINITY

  constructor(db: Database, masterKey: MasterKey) {
    this.#db = db
    this.#masterKey = masterKey
  }

  /** Reads the keys and creates the first one. Throws MasterKeyError when they cannot be decrypted. */
  async open(algorithm: SigningAlgorithm = 'ES256'): Promise<void> {
    await this.#db.transaction(async (tx) => {
      await lockSigningKeys(tx)
      const rows = await listSigningKeys(tx)
      // Created on first start, and again when every key is retired.
      if (rows.every(({ retiredAt }) => retiredAt !== null)) {
        await addSigningKey(tx, await this.#make(algorithm), 0, KEY_RETIRING_SECONDS)
      }
    })
    await this.refresh()
  }

  /**
   * Reads the keys again. Keys that are no longer in the database are removed, also when others cannot be
   * decrypted. In that case it then throws MasterKeyError.
   */
  async refresh(): Promise<void> {
    const rows = await listSigningKeys(this.#db)
    const keys = new Map<string, SigningKey>()
    let failure: unknown
    for (const row of rows) {
      try {
        keys.set(row.kid, this.#loaded(row) ?? (await this.#read(row)))
      } catch (error) {
        failure = error
      }
    }
    this.#keys = keys
    if (failure !== undefined) throw failure
  }

  /** Returns the key that signs now. Throws UNAVAILABLE when there is none. */
  signingKey(now = new Date()): SigningKey {
    const keys = [...this.#keys.values()]
    const active =
      keys.findLast((key) => stateOf(key, now) === 'active') ??
      // A database clock that was ahead made the only key.
      keys.find((key) => stateOf(key, now) === 'next')
    if (active === undefined) {
      throw unavailable('the registry has no signing key at the moment, try again', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    }
    return active
  }

  /** True while signatures of the key are trusted. */
  isTrusted(kid: string, now = new Date()): boolean {
    const key = this.#keys.get(kid)
    return key !== undefined && stateOf(key, now) !== 'gone'
  }

  /** Returns a trusted key. For an unknown key it reads the database again, and then returns undefined. */
  async find(kid: string): Promise<SigningKey | undefined> {
    if (
      !this.#keys.has(kid) &&
      performance.now() - this.#unknownKeyLookupAt > UNKNOWN_KEY_LOOKUP_MILLISECONDS
    ) {
      this.#unknownKeyLookupAt = performance.now()
      await this.refresh().catch((error: unknown) => {
        // The caller is not at fault for keys that cannot be decrypted; the refresh loop reports them.
        if (!(error instanceof MasterKeyError)) throw error
      })
    }
    return this.isTrusted(kid) ? this.#keys.get(kid) : undefined
  }

  /** Returns the public keys (RFC 7517). */
  publicKeySet(now = new Date()): { keys: JWK[] } {
    const keys = [...this.#keys.values()].filter((key) => stateOf(key, now) !== 'gone')
    return { keys: keys.map(({ publicJwk }) => publicJwk) }
  }

  #loaded(row: SigningKeyRow): SigningKey | undefined {
    const key = this.#keys.get(row.kid)
    return key && { ...key, activeAt: row.activeAt, retiredAt: row.retiredAt, goneAt: row.goneAt }
  }

  async #read(row: SigningKeyRow): Promise<SigningKey> {
    const text = await this.#masterKey.decrypt(row.privateJwe)
    if (text === undefined) {
      throw new MasterKeyError(
        'the signing keys in the database were encrypted with another master key: give every replica the file of the first one (ROOKERY_MASTER_KEY_FILE), or create new keys with: rookery key rotate --now',
      )
    }
    return { ...row, ...checkedPair(row, text) }
  }

  async #make(algorithm: SigningAlgorithm): Promise<NewSigningKey> {
    return makeKey(algorithm, this.#masterKey)
  }
}

/** Lists the keys for the operator. Keys that are gone are not kept. */
export async function listKeySummaries(
  db: Database,
  now = new Date(),
): Promise<SigningKeySummary[]> {
  const rows = await listSigningKeys(db)
  return rows.map((row) => ({
    kid: row.kid,
    algorithm: row.algorithm,
    state: stateOf(row, now),
    createdAt: row.createdAt,
    activeAt: row.activeAt,
    goneAt: row.goneAt,
  }))
}

/**
 * Adds a key. It is published at once and signs when all caches of the published keys have expired; the key
 * before it stays trusted until its last token has expired. With `atOnce`, as after a leak, all other keys
 * are removed and the new key signs now.
 */
export async function rotateSigningKeys(
  db: Database,
  masterKey: MasterKey,
  algorithm: SigningAlgorithm,
  atOnce: boolean,
  actor: Actor,
): Promise<string> {
  const key = await makeKey(algorithm, masterKey)
  await db.transaction(async (tx: Transaction) => {
    await lockSigningKeys(tx)
    if (atOnce) await removeSigningKeys(tx, REVOCATION_KEPT_SECONDS)
    await addSigningKey(tx, key, atOnce ? 0 : KEY_ACTIVATION_SECONDS, KEY_RETIRING_SECONDS)
    const detail = `${algorithm} ${key.kid}${atOnce ? ', all others removed' : ''}`
    await recordChange(tx, actor, { action: 'rotate-keys', detail })
  })
  return key.kid
}

async function makeKey(algorithm: SigningAlgorithm, masterKey: MasterKey): Promise<NewSigningKey> {
  const { publicKey, privateKey } =
    algorithm === 'ES256'
      ? await generate('ec', { namedCurve: 'P-256' })
      : await generate('ed25519')
  const bare = publicKey.export({ format: 'jwk' }) as JWK
  const kid = await calculateJwkThumbprint(bare)
  const pem = privateKey.export({ format: 'pem', type: 'pkcs8' })
  return {
    kid,
    algorithm,
    publicJwk: { ...bare, kid, alg: algorithm, use: 'sig' },
    privateJwe: await masterKey.encrypt(String(pem)),
  }
}

/** Throws MasterKeyError for a key that does not match its row. */
function checkedPair(
  { kid, algorithm, publicJwk }: SigningKeyRow,
  pem: string,
): Pick<SigningKey, 'publicJwk' | 'publicKey' | 'privateKey'> {
  const unusable = (cause?: unknown) =>
    new MasterKeyError(
      `signing key ${kid} is malformed: create new keys with: rookery key rotate --now`,
      {
        cause,
      },
    )
  try {
    const privateKey = createPrivateKey(pem)
    const publicKey = createPublicKey(privateKey)
    const curve = privateKey.asymmetricKeyDetails?.namedCurve
    const right =
      algorithm === 'ES256' ? curve === 'prime256v1' : privateKey.asymmetricKeyType === 'ed25519'
    const { x, y } = publicKey.export({ format: 'jwk' }) as JWK
    if (!right || x !== publicJwk.x || y !== publicJwk.y) throw unusable()
    return { publicJwk: publicJwk as JWK, publicKey, privateKey }
  } catch (error) {
    throw error instanceof MasterKeyError ? error : unusable(error)
  }
}

function stateOf(
  { activeAt, retiredAt, goneAt }: Pick<SigningKey, 'activeAt' | 'retiredAt' | 'goneAt'>,
  now: Date,
): SigningKeyState {
  if (goneAt !== null && goneAt <= now) return 'gone'
  if (retiredAt !== null && retiredAt <= now) return 'retiring'
  return activeAt > now ? 'next' : 'active'
}
