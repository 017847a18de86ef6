import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { Socket } from 'node:net'
import { expectContinue } from './request-body.ts'
import { INERT_HEADER_LINES } from './response-headers.ts'

// Bearer tokens, which headers carry, can be long.
const HEADER_BYTES_MAX = 64 * 1024
const HEADERS_MILLISECONDS_MAX = 15_000
const HEADERS_CHECK_MILLISECONDS = 5_000
// Longer than load balancers keep connections, so that they close first.
const KEEP_ALIVE_MILLISECONDS = 75_000
// A body or a response may take hours, but data must flow.
const IDLE_MILLISECONDS_MAX = 120_000
// Fewer and larger reads: 64 KiB costs a third more CPU on uploads.
const SOCKET_BUFFER_BYTES = 256 * 1024
// After an early refusal, the rest of the body is discarded until the client reads the response and stops.
const LINGER_MILLISECONDS_MAX = 5_000
// A proxy on a busy machine sends tens of MiB before it reads the response.
const LINGER_BYTES_MAX = 64 * 1024 * 1024

/** Creates the HTTP server, with limits that suit slow uploads, long tokens and load balancers. */
export function createHttpServer(listener: RequestListener): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_MILLISECONDS_MAX,
      connectionsCheckingInterval: HEADERS_CHECK_MILLISECONDS,
      // The default cuts uploads after five minutes.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
      highWaterMark: SOCKET_BUFFER_BYTES,
      noDelay: true,
    },
    listener,
  )
  server.setTimeout(IDLE_MILLISECONDS_MAX)
  // The client waits for 100 Continue, so a refusal saves it from sending the body.
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

/** Answers a malformed HTTP request, which no route sees, with the spec's JSON. */
function refuseMalformed(error: Error & { code?: string }, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const [status, message] = MALFORMED[error.code ?? ''] ?? [
    '400 Bad Request',
    'the request is not well-formed HTTP/1.1',
  ]
  socket.end(rawResponse(status, 'REQUEST_INVALID', message))
}

/** A response with the spec's JSON, as bytes, for connections that no route sees. */
function rawResponse(
  status: string,
  code: string,
  message: string,
  headers: string[] = [],
): string {
  const body = JSON.stringify({ errors: [{ code, message }] })
  const lines = [
    `HTTP/1.1 ${status}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    ...INERT_HEADER_LINES,
    ...headers,
  ]
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

const REFUSALS = {
  client: rawResponse(
    '429 Too Many Requests',
    'TOOMANYREQUESTS',
    'this address has too many open connections, try again',
    ['Retry-After: 5'],
  ),
  total: rawResponse(
    '503 Service Unavailable',
    'UNAVAILABLE',
    'the registry has too many open connections, try again',
    ['Retry-After: 5'],
  ),
}
const REFUSED_LINGER_MILLISECONDS_MAX = 500
/** Refused connections that are open at once, so that their clients can read the response. */
const REFUSED_MAX = 32

let refused = 0

/** Answers a new connection over a limit, and closes it without reading requests. */
export function refuseConnection(socket: Socket, limit: keyof typeof REFUSALS): void {
  socket.on('error', () => {})
  if (refused >= REFUSED_MAX) {
    socket.resetAndDestroy()
    return
  }
  refused += 1
  socket.once('close', () => {
    refused -= 1
  })
  socket.write(REFUSALS[limit])
  linger(socket, REFUSED_LINGER_MILLISECONDS_MAX)
}

/**
 * Closes the connection after a response to a request whose body was not consumed. Node would read the
 * whole rest of the body, or close at once: then the system resets the connection, and a proxy that is
 * still sending answers 502. Instead, this side ends its half, reads on within limits, and then closes
 * (RFC 9112, section 9.6).
 */
export function closeAfterUnconsumedBody(req: IncomingMessage, res: ServerResponse): void {
  if (req.complete || !hasBody(req)) return
  if (!res.headersSent) res.setHeader('Connection', 'close')
  // A request whose body failed has no socket any more, so this takes the socket of the response.
  const { socket } = res
  if (socket === null) return
  // Node calls this after the last response of a connection.
  socket.destroySoon = () => {}
  res.once('finish', () => linger(socket, LINGER_MILLISECONDS_MAX))
}

function linger(socket: Socket, millisecondsMax: number): void {
  const timer = setTimeout(() => socket.destroy(), millisecondsMax).unref()
  let left = LINGER_BYTES_MAX
  // The rest is not parsed as requests.
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
 * Waits until the responses to earlier pipelined requests are sent. Node emits pipelined requests at
 * once, and would serve them after the connection closed, with files left open. Returns false when the
 * connection closes first.
 */
export async function awaitPipelineTurn(
  req: IncomingMessage,
  res: ServerResponse,
): Promise<boolean> {
  if (res.socket !== null) return true
  const { socket } = req
  if (socket.destroyed) return false
  return new Promise((resolve) => {
    const closed = () => resolve(false)
    // Each request that waits has a listener, so many are no leak that Node should warn of.
    socket.setMaxListeners(0)
    socket.once('close', closed)
    res.once('socket', () => {
      socket.off('close', closed)
      resolve(true)
    })
  })
}
