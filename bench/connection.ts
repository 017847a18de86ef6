import { connect, type Socket } from 'node:net'

const IDLE_MILLISECONDS_MAX = 120_000
const HEAD_BYTES_MAX = 8192
const READ_BYTES = 128 * 1024

export interface HttpResponse {
  status: number
  /** The status line and the headers, as received. */
  head: string
  /** Bytes of the received body, or the Content-Length of a response without a body. */
  length: number
  /** The body of an error or a chunked response; of others only with `keepText`. */
  text: string
}

export interface HttpRequest {
  method: string
  target: string
  /** Each line ends with CR LF. */
  headers?: string
  body?: { length: number; chunks: Iterable<Buffer> }
  keepText?: boolean
}

export function header(response: HttpResponse, name: string): string | undefined {
  return new RegExp(`\r\n${name}: *([^\r]*)`, 'i').exec(response.head)?.[1]
}

interface Pending {
  request: HttpRequest
  resolve(response: HttpResponse): void
  reject(error: Error): void
}

/**
 * One HTTP/1.1 connection with one request at a time: a client cheap enough to load a server on the same
 * machine. It supports the responses of registries only: a Content-Length, or chunked JSON.
 */
export class Connection {
  readonly #socket: Socket
  readonly #host: string
  #pending: Pending | undefined
  #head = ''
  #response: HttpResponse | undefined
  #chunked = false
  #keepText = false
  #left = 0

  private constructor(socket: Socket, host: string) {
    this.#socket = socket
    this.#host = host
  }

  /** `readBytes`: what one read takes at most. */
  static open(origin: string, readBytes = READ_BYTES): Promise<Connection> {
    const { hostname, port, host } = new URL(origin)
    return new Promise((resolve, reject) => {
      const onread = {
        buffer: Buffer.allocUnsafeSlow(readBytes),
        callback: (count: number, bytes: Uint8Array) => {
          connection.#receive(bytes as Buffer, count)
          return true
        },
      }
      const socket = connect({ host: hostname, port: Number(port), noDelay: true, onread })
      const connection = new Connection(socket, host)
      socket.once('connect', () => resolve(connection))
      socket.on('error', (error) => {
        reject(error)
        connection.#fail(error)
      })
      socket.on('close', () => connection.#fail(new Error('the server closed the connection')))
      socket.setTimeout(IDLE_MILLISECONDS_MAX, () => {
        socket.destroy(new Error(`no byte moved for ${IDLE_MILLISECONDS_MAX / 1000} s`))
      })
    })
  }

  async ask(request: HttpRequest): Promise<HttpResponse> {
    const { method, target, body } = request
    const length = body ? `Content-Length: ${body.length}\r\n` : ''
    const response = new Promise<HttpResponse>((resolve, reject) => {
      this.#pending = { request, resolve, reject }
    })
    // Corked until the next tick, so that one segment has the head and a small body.
    this.#socket.cork()
    process.nextTick(() => this.#socket.uncork())
    this.#socket.write(
      `${method} ${target} HTTP/1.1\r\nHost: ${this.#host}\r\n${request.headers ?? ''}${length}\r\n`,
      'latin1',
    )
    if (body) await Promise.race([this.#write(body.chunks), response])
    return response
  }

  close(): void {
    this.#socket.destroy()
  }

  async #write(chunks: Iterable<Buffer>): Promise<void> {
    for (const chunk of chunks) {
      if (!this.#pending) return // The response or an error came before the whole body was sent.
      if (this.#socket.write(chunk)) continue
      await new Promise<void>((resolve) => {
        const go = () => {
          this.#socket.off('drain', go).off('close', go)
          resolve()
        }
        this.#socket.on('drain', go).on('close', go)
      })
    }
  }

  #fail(error: Error): void {
    const pending = this.#pending
    this.#pending = undefined
    pending?.reject(error)
  }

  #receive(bytes: Buffer, count: number): void {
    let start = 0
    if (!this.#response) {
      const before = this.#head.length
      this.#head += bytes.toString('latin1', 0, Math.min(count, HEAD_BYTES_MAX))
      const end = this.#head.indexOf('\r\n\r\n')
      if (end < 0) {
        if (count <= HEAD_BYTES_MAX) return
        this.#socket.destroy(new Error(`headers of more than ${HEAD_BYTES_MAX} bytes`))
        return
      }
      start = end + 4 - before
      this.#response = this.#begin(this.#head.slice(0, end + 2))
    }
    const response = this.#response
    if (this.#keepText) response.text += bytes.toString('latin1', start, count)
    this.#left -= count - start
    if (this.#chunked) {
      // The chunks contain JSON without CR LF, so only the last chunk ends like this.
      if (!response.text.endsWith('0\r\n\r\n')) return
      response.text = joinChunks(response.text)
      response.length = response.text.length
    } else if (this.#left > 0) return
    this.#finish(response)
  }

  #begin(head: string): HttpResponse {
    const status = Number(head.slice(9, 12))
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
    const bodiless = status === 204 || status === 304 || this.#pending?.request.method === 'HEAD'
    this.#chunked = !bodiless && /\r\ntransfer-encoding: *chunked/i.test(head)
    this.#keepText = this.#chunked || status >= 400 || this.#pending?.request.keepText === true
    this.#left = bodiless ? 0 : length
    return { status, head, length, text: '' }
  }

  #finish(response: HttpResponse): void {
    const pending = this.#pending
    this.#pending = undefined
    this.#response = undefined
    this.#head = ''
    if (!pending || (this.#left !== 0 && !this.#chunked)) {
      this.#socket.destroy(
        new Error(`more bytes than one response: ${response.head.slice(0, 200)}`),
      )
      pending?.reject(new Error('more bytes than one response'))
      return
    }
    pending.resolve(response)
  }
}

function joinChunks(text: string): string {
  let joined = ''
  for (let at = 0; ; ) {
    const end = text.indexOf('\r\n', at)
    const size = Number.parseInt(text.slice(at, end), 16)
    if (!size) return joined
    joined += text.slice(end + 2, end + 2 + size)
    at = end + 2 + size + 2
  }
}
