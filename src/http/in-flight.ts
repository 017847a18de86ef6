import type { IncomingMessage } from 'node:http'
import { type Counted, type Elsewhere, NOWHERE_ELSE } from '../async/elsewhere.ts'
import { RegistryError } from '../oci/errors.ts'

const RETRY_SECONDS = 5

/** Counts the requests that are being answered: in total, for a shutdown, and of each client behind a proxy. */
export class InFlightRequests {
  readonly #perClientMax: number
  readonly #byClient = new Map<string, number>()
  /** The client of each request that counts. */
  readonly #clients = new Map<IncomingMessage, string>()
  /** Counts of the other processes of this server. */
  elsewhere: Elsewhere = NOWHERE_ELSE
  #count = 0
  #idle: (() => void)[] = []

  /** `perClientMax` limits the requests of one client behind a proxy, which shares its connections. */
  constructor(perClientMax: number) {
    this.#perClientMax = perClientMax
  }

  /** The requests of each client behind a proxy. */
  counted(): Counted {
    return { total: this.#clients.size, byClient: this.#byClient }
  }

  begin(): void {
    this.#count += 1
  }

  end(): void {
    this.#count -= 1
    if (this.#count > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** The requests that are being answered. */
  get count(): number {
    return this.#count
  }

  /** Resolves when no request is in flight, or when the time is over. */
  async waitUntilIdle(milliseconds: number): Promise<void> {
    if (this.#count === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      this.#idle.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** Counts a request of a client behind a proxy. Throws TOOMANYREQUESTS above the limit. */
  beginOf(client: string, req: IncomingMessage): void {
    const count = this.#byClient.get(client) ?? 0
    const all = count + this.elsewhere.of(client)
    if (all >= this.#perClientMax) {
      throw new RegistryError('TOOMANYREQUESTS', undefined, {
        message: `${client} already has ${all} open requests, try again`,
        retryAfterSeconds: RETRY_SECONDS,
      })
    }
    this.#byClient.set(client, count + 1)
    this.#clients.set(req, client)
  }

  /** Ends the count of a request, if it counts. It may end early, because something else limits it. */
  endOf(req: IncomingMessage): void {
    const client = this.#clients.get(req)
    if (client === undefined) return
    this.#clients.delete(req)
    const left = (this.#byClient.get(client) ?? 1) - 1
    if (left === 0) this.#byClient.delete(client)
    else this.#byClient.set(client, left)
  }
}
