import { connect, type Socket } from 'node:net'

const IDLE_MILLISECONDS_MAX = 120_000
const HEAD_BYTES_MAX = 8192
const READ_BYTES = 128 * 1024

export interface HttpResponse {
  status: number
  /** The status line and the headers, as received. */
  head: string
  /** Bytes of body received, or Content-Length's claim when the answer has no body. */
  length: number
  /** The body of an error or of a chunked answer; of others only when asked for. */
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

export function header(answer: HttpResponse, name: string): string | undefined {
  return new RegExp(`\r\n${name}: *([^\r]*)`, 'i').exec(answer.head)?.[1]
}

interface Pending {
  question: HttpRequest
  resolve(answer: HttpResponse): void
  reject(error: Error): void
}

/**
 * One HTTP/1.1 connection, one request at a time: a client small enough to load a server from the
 * same machine. It supports only the answers of registries: a Content-Length, or chunked JSON.
 */
export class Connection {
  readonly #socket: Socket
  readonly #host: string
  #pending: Pending | undefined
  #head = ''
  #answer: HttpResponse | undefined
  #chunked = false
  #keepText = false
  #left = 0

  private constructor(socket: Socket, host: string) {
    this.#socket = socket
    this.#host = host
  }

  static open(origin: string): Promise<Connection> {
    const { hostname, port, host } = new URL(origin)
    return new Promise((resolve, reject) => {
      const onread = {
        buffer: Buffer.allocUnsafeSlow(READ_BYTES),
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

  async ask(question: HttpRequest): Promise<HttpResponse> {
    const { method, target, body } = question
    const length = body ? `Content-Length: ${body.length}\r\n` : ''
    const answer = new Promise<HttpResponse>((resolve, reject) => {
      this.#pending = { question, resolve, reject }
    })
    // Corked until the next tick, so that the head and a small body leave together.
    this.#socket.cork()
    process.nextTick(() => this.#socket.uncork())
    this.#socket.write(
      `${method} ${target} HTTP/1.1\r\nHost: ${this.#host}\r\n${question.headers ?? ''}${length}\r\n`,
      'latin1',
    )
    if (body) await Promise.race([this.#write(body.chunks), answer])
    return answer
  }

  close(): void {
    this.#socket.destroy()
  }

  async #write(chunks: Iterable<Buffer>): Promise<void> {
    for (const chunk of chunks) {
      if (!this.#pending) return // Answered, or failed, before the whole body was sent.
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
    if (!this.#answer) {
      const before = this.#head.length
      this.#head += bytes.toString('latin1', 0, Math.min(count, HEAD_BYTES_MAX))
      const end = this.#head.indexOf('\r\n\r\n')
      if (end < 0) {
        if (count <= HEAD_BYTES_MAX) return
        this.#socket.destroy(new Error(`headers of more than ${HEAD_BYTES_MAX} bytes`))
        return
      }
      start = end + 4 - before
      this.#answer = this.#begin(this.#head.slice(0, end + 2))
    }
    const answer = this.#answer
    if (this.#keepText) answer.text += bytes.toString('latin1', start, count)
    this.#left -= count - start
    if (this.#chunked) {
      // The chunks hold JSON, which has no CR LF of its own: only the last chunk looks like this.
      if (!answer.text.endsWith('0\r\n\r\n')) return
      answer.text = joinChunks(answer.text)
      answer.length = answer.text.length
    } else if (this.#left > 0) return
    this.#finish(answer)
  }

  #begin(head: string): HttpResponse {
    const status = Number(head.slice(9, 12))
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
    const bodiless = status === 204 || status === 304 || this.#pending?.question.method === 'HEAD'
    this.#chunked = !bodiless && /\r\ntransfer-encoding: *chunked/i.test(head)
    this.#keepText = this.#chunked || status >= 400 || this.#pending?.question.keepText === true
    this.#left = bodiless ? 0 : length
    return { status, head, length, text: '' }
  }

  #finish(answer: HttpResponse): void {
    const pending = this.#pending
    this.#pending = undefined
    this.#answer = undefined
    this.#head = ''
    if (!pending || (this.#left !== 0 && !this.#chunked)) {
      this.#socket.destroy(new Error(`more bytes than one answer: ${answer.head.slice(0, 200)}`))
      pending?.reject(new Error('more bytes than one answer'))
      return
    }
    pending.resolve(answer)
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
