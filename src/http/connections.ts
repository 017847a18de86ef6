import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { Socket } from 'node:net'
import { expectContinue } from './body.ts'

// Long bearer tokens travel in a header.
const HEADER_BYTES_MAX = 64 * 1024
const HEADERS_MILLISECONDS_MAX = 15_000
// Longer than what load balancers keep, so that they close first.
const KEEP_ALIVE_MILLISECONDS = 75_000
// A body or an answer may take hours, but not stand still.
const IDLE_MILLISECONDS_MAX = 120_000
// Fewer and larger reads: 64 KiB costs a third more CPU on uploads.
const SOCKET_BUFFER_BYTES = 256 * 1024
// Time for a client to read an early refusal before its connection goes.
const LINGER_MILLISECONDS = 500
const DRAIN_POLL_MILLISECONDS = 100

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
 * After an answer that left the request's body unread, the connection cannot be used again. Node
 * would read all that the client still sends; instead the client gets the answer, a moment to read
 * it, and then the connection closes.
 */
export function closeUnread(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || !hasBody(req)) return
  if (!res.headersSent) res.setHeader('Connection', 'close')
  const { socket } = req
  res.once('finish', () => {
    if (req.complete) return
    socket.pause()
    setTimeout(() => socket.destroy(), LINGER_MILLISECONDS).unref()
  })
}

function hasBody(req: IncomingMessage): boolean {
  return (
    req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
  )
}

/** Stops accepting, lets running requests end within the limit, and closes what is left. */
export async function drain(server: Server, milliseconds: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  // Connections that are kept alive learn of the end with their next answer.
  server.prependListener('request', (_req: IncomingMessage, res: ServerResponse) => {
    res.setHeader('Connection', 'close')
  })
  const idle = setInterval(() => server.closeIdleConnections(), DRAIN_POLL_MILLISECONDS)
  const late = setTimeout(() => server.closeAllConnections(), milliseconds)
  try {
    await closed
  } finally {
    clearInterval(idle)
    clearTimeout(late)
  }
}
