import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import { clientNetwork } from '../networks/networks.ts'
import { RegistryError } from '../oci/errors.ts'

/** Failures in a row that are free, and the seconds after which one more is free. */
type Limit = { readonly failuresAtOnce: number; readonly secondsPerFailure: number }

/** For one user name from one address: clients try twice, and people mistype. */
const USER_LIMIT: Limit = { failuresAtOnce: 20, secondsPerFailure: 3 }
/** For all user names from one address. */
const ADDRESS_LIMIT: Limit = { failuresAtOnce: 200, secondsPerFailure: 0.3 }
const COUNTED_MAX = 100_000
const GUESSES_REMEMBERED_MAX = 100_000

/** A wrong secret, by the keys under which it counts. */
export type Failure = { readonly user: string; readonly network: string; readonly guess: string }

type Count = { readonly failures: number; readonly at: number }

/**
 * Counts wrong secrets by address and user name, and with a wider limit by address; an IPv6 address counts with
 * its /64. A secret that is repeated counts once: a program with an old password guesses nothing. The caller
 * looks a secret up first, so a valid one never waits for the failures of others behind its address.
 */
export class LoginThrottle {
  readonly #counts = new LRUCache<string, Count>(entriesMax(COUNTED_MAX))
  readonly #guesses = new LRUCache<string, true>(entriesMax(GUESSES_REMEMBERED_MAX))
  /** Called for each failure that counts, for the other processes of this server. */
  onFailure: (failure: Failure) => void = () => {}
  readonly #now: () => number

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /**
   * Throws TOOMANYREQUESTS with `retryAfterSeconds` when the address has failed too often with this user name.
   * Only a secret that could be guessed needs this check before it is compared.
   */
  assertBelowLimit(address: string, user: string): void {
    this.#assertBelow(keyOf(address, user), USER_LIMIT, address)
  }

  /**
   * Counts a wrong secret, unless the same address has sent it before for this user name. Throws
   * TOOMANYREQUESTS instead when a limit is reached.
   */
  recordFailure(address: string, user: string, secret: string): void {
    const key = keyOf(address, user)
    const guess = hash(JSON.stringify([key, secret]))
    if (this.#guesses.get(guess) !== undefined) return
    this.#assertBelow(key, USER_LIMIT, address)
    const network = clientNetwork(address)
    this.#assertBelow(network, ADDRESS_LIMIT, address)
    const failure = { user: key, network, guess }
    this.countFailure(failure)
    this.onFailure(failure)
  }

  /** Counts a wrong secret that another process of this server was sent. */
  countFailure({ user, network, guess }: Failure): void {
    if (this.#guesses.get(guess) !== undefined) return
    this.#guesses.set(guess, true)
    this.#increment(user, USER_LIMIT)
    this.#increment(network, ADDRESS_LIMIT)
  }

  #assertBelow(key: string, limit: Limit, address: string): void {
    const failures = this.#failures(key, limit)
    if (failures <= limit.failuresAtOnce - 1) return
    const seconds = Math.ceil((failures - limit.failuresAtOnce + 1) * limit.secondsPerFailure)
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: `too many failed logins from ${address}, try again in ${seconds} s`,
      retryAfterSeconds: seconds,
    })
  }

  #increment(key: string, limit: Limit): void {
    this.#counts.set(key, { failures: this.#failures(key, limit) + 1, at: this.#now() })
  }

  #failures(key: string, { secondsPerFailure }: Limit): number {
    const count = this.#counts.get(key)
    if (count === undefined) return 0
    const forgiven = (this.#now() - count.at) / 1000 / secondsPerFailure
    return Math.max(0, count.failures - forgiven)
  }
}

/** User names are of any length; a hash bounds the memory of a key. */
function keyOf(address: string, user: string): string {
  return `${clientNetwork(address)} ${hash(user)}`
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64')
}
