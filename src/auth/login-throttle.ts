import { isIPv6 } from 'node:net'
import { LRUCache } from 'lru-cache'
import { RegistryError } from '../oci/errors.ts'

/** So many failures in a row cost nothing: clients try twice, and people mistype. */
const FAILURES_AT_ONCE = 20
/** One more is free after so long. */
const SECONDS_A_FAILURE = 3
const ADDRESSES_MAX = 100_000

type Bucket = { failures: number; at: number }

/** Slows down those who guess: failed authentication, by address. */
export class LoginThrottle {
  readonly #buckets = new LRUCache<string, Bucket>({ max: ADDRESSES_MAX })
  readonly #now: () => number

  /** `now` is in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Throws TOOMANYREQUESTS, with Retry-After, when the address has failed too often. */
  assertBelowLimit(address: string): void {
    const failures = this.#failures(address)
    if (failures < FAILURES_AT_ONCE) return
    const seconds = Math.ceil((failures - FAILURES_AT_ONCE + 1) * SECONDS_A_FAILURE)
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: `too many failed logins from ${address}, try again in ${seconds} s`,
      headers: { 'Retry-After': String(seconds) },
    })
  }

  recordFailure(address: string): void {
    const failures = this.#failures(address) + 1
    this.#buckets.set(networkOf(address), { failures, at: this.#now() })
  }

  #failures(address: string): number {
    const bucket = this.#buckets.get(networkOf(address))
    if (bucket === undefined) return 0
    const forgiven = (this.#now() - bucket.at) / 1000 / SECONDS_A_FAILURE
    return Math.max(0, bucket.failures - forgiven)
  }
}

/** Whoever has an IPv6 address has the 2^64 beside it. */
function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const [head = '', tail = ''] = address.split('::')
  const before = head.split(':').filter((part) => part !== '')
  const after = tail.split(':').filter((part) => part !== '')
  const zeros = address.includes('::') ? 8 - before.length - after.length : 0
  const groups = [...before, ...Array<string>(Math.max(0, zeros)).fill('0'), ...after]
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16))
    .join(':')
}
