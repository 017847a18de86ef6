import type { ServerResponse } from 'node:http'
import { RegistryError, unavailable } from '../oci/errors.ts'
import type { RouteContext } from './route.ts'

/** One block of a stream of events (HTML, section 9.2). */
export type Block = {
  readonly id?: string
  readonly event?: string
  /** One line. */
  readonly data?: string
}

const HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  // Proxies must pass on each block at once, and as it is.
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
}
/** Clients that lose the stream come back after so long. */
const RETRY_MILLISECONDS = 2_000
/** What a client has not taken yet; more, and it is cut off, to go on from its last id. */
const UNSENT_BYTES_MAX = 256 * 1024
const DRAIN_MILLISECONDS_MAX = 30_000
const ENDING_MILLISECONDS = 500

/** A stream of events that a client holds. */
export class EventStream {
  readonly #res: ServerResponse
  /** Resolves when it is over, for whatever reason. */
  readonly closed: Promise<void>

  constructor(ctx: RouteContext) {
    this.#res = ctx.res
    this.closed = new Promise((resolve) => {
      if (ctx.res.destroyed) resolve()
      else ctx.res.once('close', resolve)
    })
    ctx.respond = false
    ctx.status = 200
    this.#res.writeHead(200, HEADERS)
    this.#res.write(`retry: ${RETRY_MILLISECONDS}\n\n`)
  }

  get isOpen(): boolean {
    return !this.#res.destroyed && !this.#res.writableEnded
  }

  send({ id, event, data }: Block): void {
    if (!this.isOpen) return
    const lines = [
      ...(id === undefined ? [] : [`id: ${id}`]),
      ...(event === undefined ? [] : [`event: ${event}`]),
      ...(data === undefined ? [] : [`data: ${data}`]),
    ]
    this.#res.write(`${lines.join('\n')}\n\n`)
  }

  /** A line that clients pass over, so that nobody on the way takes the connection for dead. */
  comment(text: string): void {
    if (this.isOpen) this.#res.write(`: ${text}\n\n`)
  }

  /** Cuts off a client that does not take what it is sent. */
  disconnectIfBehind(): void {
    if (this.#res.writableLength > UNSENT_BYTES_MAX) this.#res.destroy()
  }

  /** Resolves when the client took most of it; one that does not in time is cut off. */
  async drained(): Promise<void> {
    if (!this.isOpen || !this.#res.writableNeedDrain) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.#res.destroy(), DRAIN_MILLISECONDS_MAX)
      const done = () => {
        clearTimeout(timer)
        this.#res.off('drain', done).off('close', done)
        resolve()
      }
      this.#res.once('drain', done).once('close', done)
    })
  }

  /** Ends it; the client may come back at once. */
  end(): void {
    if (!this.isOpen) return
    this.#res.end()
    setTimeout(() => this.#res.destroy(), ENDING_MILLISECONDS).unref()
  }
}

const CLIENTS_MAX = 10_000
const RETRY_AFTER_SECONDS = 10

/** Who waits for events in this process: so many in all, and so many of one address. */
export class ConnectionLimit {
  readonly #addressMax: number
  readonly #counts = new Map<string, number>()
  readonly #ends = new Set<() => void>()
  #closed = false

  constructor(addressMax: number) {
    this.#addressMax = addressMax
  }

  get count(): number {
    return this.#ends.size
  }

  /**
   * Runs `work` for as long as somebody waits; `end` is how it is told to stop. Throws TOOMANYREQUESTS,
   * and UNAVAILABLE while the server ends.
   */
  async run(address: string, end: () => void, work: () => Promise<void>): Promise<void> {
    const count = this.#counts.get(address) ?? 0
    if (this.#closed)
      throw unavailable('this server is shutting down, try again', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      })
    if (this.#ends.size >= CLIENTS_MAX) {
      throw tooManyClients(`${CLIENTS_MAX} clients wait for events here already`)
    }
    if (count >= this.#addressMax) {
      throw tooManyClients(`${this.#addressMax} clients of ${address} wait for events already`)
    }
    this.#counts.set(address, count + 1)
    this.#ends.add(end)
    try {
      await work()
    } finally {
      this.#ends.delete(end)
      const left = (this.#counts.get(address) ?? 1) - 1
      if (left === 0) this.#counts.delete(address)
      else this.#counts.set(address, left)
    }
  }

  /** Lets nobody wait any more: they go on at another replica. */
  close(): void {
    this.#closed = true
    for (const end of this.#ends) end()
  }
}

function tooManyClients(message: string): RegistryError {
  const retryAfterSeconds = RETRY_AFTER_SECONDS
  return new RegistryError('TOOMANYREQUESTS', undefined, { message, retryAfterSeconds })
}
