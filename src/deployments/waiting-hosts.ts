import { RegistryError } from '../oci/errors.ts'

/** Hosts that wait in one process, where its limit of connections allows as many. */
const HOSTS_MAX = 10_000
const RETRY_SECONDS = 10

/**
 * Why a wait ended. `changed`: the host should run something else. `host`: a notice to this host, such as its
 * revocation. `replaced`: the host sent another request. `closed`: the server stops, or the client left.
 */
export type WaitEnd = 'changed' | 'host' | 'time' | 'replaced' | 'closed'

/** The place of a host among those that wait, for one request. The request keeps it between its waits. */
export class WaitingPlace {
  readonly leave: () => void
  #version = ''
  #wake: ((reason: WaitEnd) => void) | undefined
  #ended: 'replaced' | 'closed' | undefined

  /** `leave` gives the place back. */
  constructor(leave: () => void) {
    this.leave = leave
  }

  /** Waits until something ends the wait: at once when another request has the place. `version`: what the host knows. */
  async wait(version: string, milliseconds: number, signal: AbortSignal): Promise<WaitEnd> {
    if (this.#ended !== undefined) return this.#ended
    if (signal.aborted) return 'closed'
    this.#version = version
    return new Promise((resolve) => {
      const wake = (reason: WaitEnd) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', close)
        this.#wake = undefined
        resolve(reason)
      }
      const close = () => wake('closed')
      const timer = setTimeout(() => wake('time'), milliseconds)
      signal.addEventListener('abort', close)
      this.#wake = wake
    })
  }

  wake(): void {
    this.#wake?.('host')
  }

  wakeIfOther(version: string): void {
    if (version !== this.#version) this.#wake?.('changed')
  }

  /** Ends this wait, and every later one. */
  end(reason: 'replaced' | 'closed'): void {
    this.#ended = reason
    this.#wake?.(reason)
  }
}

/**
 * The hosts that wait for a change in this process, with one request each: the limit counts hosts and not addresses, because
 * a site may have hundreds of them behind one.
 */
export class WaitingHosts {
  readonly #hostsMax: number
  readonly #places = new Map<number, WaitingPlace>()
  #isClosed = false

  constructor(hostsMax = HOSTS_MAX) {
    this.#hostsMax = Math.min(hostsMax, HOSTS_MAX)
  }

  /** The number of hosts that have a place now. */
  get count(): number {
    return this.#places.size
  }

  hostIds(): number[] {
    return [...this.#places.keys()]
  }

  /** Gives a host a place. An earlier request of the same host ends. Throws TOOMANYREQUESTS when too many hosts wait. */
  enter(hostId: number): WaitingPlace {
    const earlier = this.#places.get(hostId)
    if (earlier === undefined && this.#places.size >= this.#hostsMax) {
      throw new RegistryError('TOOMANYREQUESTS', undefined, {
        message: `${this.#hostsMax} hosts already wait at this server`,
        retryAfterSeconds: RETRY_SECONDS,
      })
    }
    const place = new WaitingPlace(() => {
      if (this.#places.get(hostId) === place) this.#places.delete(hostId)
    })
    if (this.#isClosed) place.end('closed')
    else this.#places.set(hostId, place)
    earlier?.end('replaced')
    return place
  }

  /** Ends the wait of a host. */
  wake(hostId: number): void {
    this.#places.get(hostId)?.wake()
  }

  /** Ends the wait of a host that knows another version. */
  wakeIfOther(hostId: number, version: string): void {
    this.#places.get(hostId)?.wakeIfOther(version)
  }

  /** Ends all waits, and admits no more: hosts ask another replica. */
  close(): void {
    this.#isClosed = true
    for (const place of this.#places.values()) place.end('closed')
  }
}
