import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import { Server as NetServer, type Socket } from 'node:net'
import { expectContinue } from './request-body.ts'

// Long bearer tokens travel in a header.
const HEADER_BYTES_MAX = 64 * 1024
const HEADERS_MILLISECONDS_MAX = 15_000
// Longer than what load balancers keep, so that they close first.
const KEEP_ALIVE_MILLISECONDS = 75_000
// A body or an answer may take hours, but not stand still.
const IDLE_MILLISECONDS_MAX = 120_000
// Fewer and larger reads: 64 KiB costs a third more CPU on uploads.
const SOCKET_BUFFER_BYTES = 256 * 1024
// What a client still sends after an early refusal is thrown away, until it has read that and stops.
const LINGER_MILLISECONDS_MAX = 5_000
const LINGER_BYTES_MAX = 16 * 1024 * 1024

/** The HTTP server with the limits that slow uploads, long tokens and load balancers need. */
export function createHttpServer(listener: RequestListener): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MILLISECONDS_MAX,
      // The default cuts uploads after five minutes.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
      highWaterMark: SOCKET_BUFFER_BYTES,
      noDelay: true,
    },
    listener,
  )
  server.setTimeout(IDLE_MILLISECONDS_MAX)
  // The client waits for a word before it sends its body: it hears a refusal without sending.
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    expectContinue(req)
    listener(req, res)
  })
  server.on('clientError', refuseMalformed)
  return server
}

const MALFORMED: Readonly<Record<string, readonly [status: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'the headers are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'the headers did not arrive in time'],
}

/** What is no HTTP request never reaches the routes, and still gets the spec's JSON. */
function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const [status, message] = MALFORMED[error.code ?? ''] ?? [
    '400 Bad Request',
    'the request is not well-formed HTTP/1.1',
  ]
  const body = JSON.stringify({ errors: [{ code: 'REQUEST_INVALID', message }] })
  const headers = [
    `HTTP/1.1 ${status}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
  ]
  socket.end(`${headers.join('\r\n')}\r\n\r\n${body}`)
}

/**
 * After an answer that left the request's body unread, the connection cannot be used again. Node would
 * read all that the client still sends, or close at once: then the system answers what still arrives
 * with a reset, and a proxy that is sending makes a 502 of it. So this side ends, reads a little on, and
 * then closes (RFC 9112, section 9.6).
 */
export function closeAfterUnreadBody(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || !hasBody(req)) return
  if (!res.headersSent) res.setHeader('Connection', 'close')
  const { socket } = req
  // How Node closes after its last answer.
  socket.destroySoon = () => {}
  res.once('finish', () => linger(socket))
}

function linger(socket: Socket): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MILLISECONDS_MAX).unref()
  let left = LINGER_BYTES_MAX
  // Nothing of it is a request any more.
  socket.removeAllListeners('data')
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) socket.destroy()
  })
  socket.once('end', () => socket.destroy())
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  socket.resume()
}

function hasBody(req: IncomingMessage): boolean {
  return (
    req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
  )
}

/**
 * Node hands over pipelined requests at once, and would go on serving them after the connection is
 * gone, with files left open. Each waits for its turn instead. False when that never comes.
 */
export async function awaitPipelineTurn(
  req: IncomingMessage,
  res: ServerResponse,
): Promise<boolean> {
  if (res.socket !== null) return true
  const { socket } = req
  if (socket.destroyed) return false
  return new Promise((resolve) => {
    const gone = () => resolve(false)
    socket.once('close', gone)
    res.once('socket', () => {
      socket.off('close', gone)
      resolve(true)
    })
  })
}

/** What is connected and what is being answered, so that a server can end in good order. */
export class Connections {
  readonly #server: Server
  readonly #running = new Map<Socket, number>()
  #draining = false

  constructor(server: Server) {
    this.#server = server
    server.on('connection', (socket: Socket) => {
      this.#running.set(socket, 0)
      socket.once('close', () => this.#running.delete(socket))
    })
    for (const event of ['request', 'checkContinue']) {
      server.prependListener(event, (req: IncomingMessage, res: ServerResponse) => {
        this.#count(req.socket, 1)
        // Whoever keeps the connection alive learns of the end with this answer.
        if (this.#draining) res.setHeader('Connection', 'close')
        res.once('close', () => {
          this.#count(req.socket, -1)
          if (this.#draining) this.#closeIdle()
        })
      })
    }
  }

  /** Stops accepting, lets running requests end within the limit, and closes what is left. */
  async drain(milliseconds: number): Promise<void> {
    this.#draining = true
    // Not the HTTP server's own close: that one takes connections for idle whose answer is on its way.
    const closed = new Promise<void>((resolve) => {
      NetServer.prototype.close.call(this.#server, () => resolve())
    })
    this.#closeIdle()
    const late = setTimeout(() => this.#server.closeAllConnections(), milliseconds)
    await closed
    clearTimeout(late)
  }

  #count(socket: Socket, change: number): void {
    const running = this.#running.get(socket)
    if (running !== undefined) this.#running.set(socket, running + change)
  }

  /** Also those that never sent a whole request, which Node waits for. */
  #closeIdle(): void {
    for (const [socket, running] of this.#running) if (running === 0) socket.destroySoon()
  }
}
