import type { ServerResponse } from 'node:http'
import type { RouteContext } from './route.ts'

/** One block of Server-Sent Events (HTML, section 9.2). */
export type Block = {
  readonly id?: string
  readonly event?: string
  /** One line. */
  readonly data?: string
}

const HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  // Proxies must forward each block at once and unchanged.
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
}
/** Clients reconnect after so long. */
const RETRY_MILLISECONDS = 2_000
/** A client with more unsent bytes is disconnected, and resumes from its last id. */
const UNSENT_BYTES_MAX = 256 * 1024
const DRAIN_MILLISECONDS_MAX = 30_000
const ENDING_MILLISECONDS = 500

/** An open stream of Server-Sent Events. */
export class EventStream {
  readonly #res: ServerResponse
  readonly #state: RouteContext['state']

  /** Sends the headers. */
  constructor(ctx: RouteContext) {
    this.#res = ctx.res
    this.#state = ctx.state
    ctx.respond = false
    ctx.status = 200
    this.#res.writeHead(200, HEADERS)
    this.#write(`retry: ${RETRY_MILLISECONDS}\n\n`)
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
    this.#write(`${lines.join('\n')}\n\n`)
  }

  #write(text: string): void {
    this.#state.bytesSent += Buffer.byteLength(text)
    this.#res.write(text)
  }

  /** Sends a line that clients ignore, so that no proxy closes a silent connection. */
  comment(text: string): void {
    if (this.isOpen) this.#write(`: ${text}\n\n`)
  }

  /** Disconnects a client that does not read what it is sent. */
  disconnectIfBehind(): void {
    if (this.#res.writableLength > UNSENT_BYTES_MAX) this.#res.destroy()
  }

  /** Resolves when the client has read most of it. Disconnects a client that takes too long. */
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

  /** Ends the stream; the client may reconnect at once. */
  end(): void {
    if (!this.isOpen) return
    this.#res.end()
    setTimeout(() => this.#res.destroy(), ENDING_MILLISECONDS).unref()
  }
}
