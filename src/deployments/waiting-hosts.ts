import { RegistryError } from '../oci/errors.ts'

/** Hosts that wait in one process. */
const HOSTS_MAX = 10_000
const RETRY_SECONDS = 10

/**
 * Why a wait ended. `changed`: the host should run something else. `host`: a notice to this host, such as its
 * revocation. `replaced`: the host sent another request. `closed`: the server stops, or the client left.
 */
export type WaitEnd = 'changed' | 'host' | 'time' | 'replaced' | 'closed'

type Wait = { readonly version: string; end(reason: WaitEnd): void }

/**
 * The hosts that wait for a change in this process, with one request each: the limit counts hosts and not addresses, because
 * a site may have hundreds of them behind one.
 */
export class WaitingHosts {
  readonly #hostsMax: number
  readonly #waits = new Map<number, Wait>()
  #isClosed = false

  constructor(hostsMax = HOSTS_MAX) {
    this.#hostsMax = hostsMax
  }

  /** The number of hosts that wait now. */
  get count(): number {
    return this.#waits.size
  }

  hostIds(): number[] {
    return [...this.#waits.keys()]
  }

  /**
   * Waits until something ends the wait. An earlier wait of the same host ends. `version`: what the host knows. Throws
   * TOOMANYREQUESTS when too many hosts wait.
   */
  async wait(
    hostId: number,
    version: string,
    milliseconds: number,
    signal: AbortSignal,
  ): Promise<WaitEnd> {
    this.#waits.get(hostId)?.end('replaced')
    if (this.#isClosed || signal.aborted) return 'closed'
    if (this.#waits.size >= this.#hostsMax) {
      throw new RegistryError('TOOMANYREQUESTS', undefined, {
        message: `${this.#hostsMax} hosts already wait at this server`,
        retryAfterSeconds: RETRY_SECONDS,
      })
    }
    return new Promise((resolve) => {
      const end = (reason: WaitEnd) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', leave)
        if (this.#waits.get(hostId) === own) this.#waits.delete(hostId)
        resolve(reason)
      }
      const own: Wait = { version, end }
      const leave = () => end('closed')
      const timer = setTimeout(() => end('time'), milliseconds)
      signal.addEventListener('abort', leave)
      this.#waits.set(hostId, own)
    })
  }

  /** Ends the wait of a host. */
  wake(hostId: number): void {
    this.#waits.get(hostId)?.end('host')
  }

  /** Ends the wait of a host that knows another version. */
  wakeIfOther(hostId: number, version: string): void {
    const own = this.#waits.get(hostId)
    if (own !== undefined && own.version !== version) own.end('changed')
  }

  /** Ends all waits, and admits no more: hosts ask another replica. */
  close(): void {
    this.#isClosed = true
    for (const { end } of [...this.#waits.values()]) end('closed')
  }
}
