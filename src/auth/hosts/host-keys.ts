import { type Actor, recordChange } from '../../db/auth/audit.ts'
import type { Database } from '../../db/database.ts'
import {
  addHostKey,
  endOtherHostKeys,
  findHostOfKey,
  type HostOfKey,
  lockHostKeys,
  markAssertionUsed,
} from '../../db/hosts/host-keys.ts'
import { badRequest, conflict, unauthorized } from '../../oci/errors.ts'
import {
  type Assertion,
  type AssertionContext,
  InvalidAssertionError,
  verifyAssertion,
} from './assertions.ts'
import type { HostGrant } from './host-access.ts'
import { type HostJwk, parseHostKey } from './host-key.ts'

export type HostKeysOptions = {
  readonly db: Database
  /** `aud` of assertions. */
  readonly issuer: string
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

/** A request of a host for another key. */
export type KeyRotation = {
  /** The public key: JSON text, or an object. */
  readonly jwk: unknown
  /** An assertion that the new key signed. */
  readonly proof: string
  /** An assertion that the present key signed: a token alone, which others may see, changes no key. */
  readonly assertion: string
}

export type RotatedKey = {
  readonly host: string
  readonly fingerprint: string
  /** For how long the earlier key is accepted. */
  readonly overlapSeconds: number
}

/** A host asks with its earlier key when the answer of a rotation was lost. */
export const KEY_OVERLAP_SECONDS = 600
/** Keys of a host that are accepted at once. */
const KEYS_MAX = 4

/** The keys of hosts, by which they get tokens. Every change is in the audit log. */
export class HostKeys {
  readonly #db: Database
  readonly #issuer: string
  readonly #now: () => number

  constructor({ db, issuer, now = Date.now }: HostKeysOptions) {
    this.#db = db
    this.#issuer = issuer
    this.#now = now
  }

  /** Returns the host that signed an assertion, which is accepted once. Throws InvalidAssertionError. */
  async accept(assertion: string): Promise<HostGrant> {
    const { host } = await this.#accept(assertion)
    return host
  }

  /**
   * Gives a host another key, and ends the others after KEY_OVERLAP_SECONDS. A host that repeats its request gets the same
   * answer. Throws REQUEST_INVALID for a malformed key or proof, UNAUTHORIZED for an assertion of another host, and
   * CONFLICT for a key that a host has or had.
   */
  async rotate(
    host: { readonly id: number; readonly name: string },
    rotation: KeyRotation,
    actor: Actor,
  ): Promise<RotatedKey> {
    const key = await parseHostKey(rotation.jwk)
    const findNew = async (kid: string) => (kid === key.thumbprint ? key.jwk : undefined)
    const proof = await this.#verify('proof', rotation.proof, findNew)
    await markAssertionUsed(this.#db, proof.thumbprint, proof.id, proof.refusedFrom)
    await this.#assertSignedBy(host.id, rotation.assertion)
    await this.#db.transaction(async (tx) => {
      const detail = `${host.name}, key ${key.thumbprint}`
      await recordChange(tx, actor, { action: 'rotate-host-key', detail })
      const keys = await lockHostKeys(tx, host.id)
      if (keys === undefined) throw unauthorized('the host was revoked')
      if (keys.at(-1) === key.thumbprint) return
      if (keys.length === 0) throw conflict('the host has a secret and no key')
      if (keys.length >= KEYS_MAX) {
        throw conflict(
          `the host has ${KEYS_MAX} keys that are still accepted: wait ${KEY_OVERLAP_SECONDS} s`,
        )
      }
      if (!(await addHostKey(tx, host.id, key.thumbprint, key.jwk))) {
        throw conflict('a host has this key, or had it: make another key')
      }
      await endOtherHostKeys(tx, host.id, key.thumbprint, KEY_OVERLAP_SECONDS)
    })
    return {
      host: host.name,
      fingerprint: key.thumbprint,
      overlapSeconds: KEY_OVERLAP_SECONDS,
    }
  }

  async #accept(text: string): Promise<{ host: HostOfKey; assertion: Assertion }> {
    let host: HostOfKey | undefined
    const assertion = await verifyAssertion(text, {
      audience: this.#issuer,
      now: this.#now(),
      findKey: async (thumbprint) => {
        host = await findHostOfKey(this.#db, thumbprint)
        // The key was checked when it was stored.
        return host?.jwk as HostJwk | undefined
      },
    })
    if (host === undefined) throw new InvalidAssertionError('no host has the key of this assertion')
    assertAccepted(host)
    const { thumbprint, id, refusedFrom } = assertion
    if (!(await markAssertionUsed(this.#db, thumbprint, id, refusedFrom))) {
      throw new InvalidAssertionError(
        'this assertion was used already: make another one, with another jti',
      )
    }
    return { host, assertion }
  }

  async #verify(
    field: string,
    text: string,
    findKey: AssertionContext['findKey'],
  ): Promise<Assertion> {
    try {
      return await verifyAssertion(text, { audience: this.#issuer, now: this.#now(), findKey })
    } catch (error) {
      throw asBadRequest(field, error)
    }
  }

  async #assertSignedBy(hostId: number, text: string): Promise<void> {
    let accepted: HostOfKey
    try {
      accepted = (await this.#accept(text)).host
    } catch (error) {
      throw asBadRequest('assertion', error)
    }
    if (accepted.id !== hostId) throw unauthorized('the assertion is of another host')
  }
}

function asBadRequest(field: string, error: unknown): unknown {
  if (!(error instanceof InvalidAssertionError)) return error
  return badRequest(`${field}: ${error.message}`, { field, cause: error })
}

/** Throws InvalidAssertionError unless the host is active and has the key still. */
function assertAccepted({ state, isEnded }: HostOfKey): void {
  if (state === 'pending') {
    throw new InvalidAssertionError('the host waits for its approval: rookery host approve')
  }
  if (state === 'revoked') throw new InvalidAssertionError('the host was revoked')
  if (isEnded) throw new InvalidAssertionError('the host has another key since a while')
}
