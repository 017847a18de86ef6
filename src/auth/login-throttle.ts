import { LRUCache } from 'lru-cache'
import { clientNetwork } from '../networks/networks.ts'
import { RegistryError } from '../oci/errors.ts'

/** Failures in a row that are free: clients try twice, and people mistype. */
const FAILURES_AT_ONCE = 20
/** One more failure is free after this time. */
const SECONDS_PER_FAILURE = 3
const ADDRESSES_MAX = 100_000

type Bucket = { failures: number; at: number }

/** Limits failed logins by address: an IPv6 address counts with its /64. */
export class LoginThrottle {
  readonly #buckets = new LRUCache<string, Bucket>({ max: ADDRESSES_MAX })
  readonly #now: () => number

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Throws TOOMANYREQUESTS with `retryAfterSeconds` when the address has failed too often. */
  assertBelowLimit(address: string): void {
    const failures = this.#failures(address)
    if (failures < FAILURES_AT_ONCE) return
    const seconds = Math.ceil((failures - FAILURES_AT_ONCE + 1) * SECONDS_PER_FAILURE)
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: `too many failed logins from ${address}, try again in ${seconds} s`,
      retryAfterSeconds: seconds,
    })
  }

  recordFailure(address: string): void {
    const failures = this.#failures(address) + 1
    this.#buckets.set(clientNetwork(address), { failures, at: this.#now() })
  }

  #failures(address: string): number {
    const bucket = this.#buckets.get(clientNetwork(address))
    if (bucket === undefined) return 0
    const forgiven = (this.#now() - bucket.at) / 1000 / SECONDS_PER_FAILURE
    return Math.max(0, bucket.failures - forgiven)
  }
}
