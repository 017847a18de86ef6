import { connect, type Socket } from 'node:net'

export type RawAnswer = {
  readonly status: number
  /** Names are in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

export type RawRequest = {
  readonly method: string
  /** The target in the request line; text is sent byte for byte, as Latin-1. */
  readonly target: string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

/** The server closed the connection, or did not answer in time. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError'
}

const ANSWER_MILLISECONDS_MAX = 5_000
const END_OF_HEAD = '\r\n\r\n'

export function basic(password: string): string {
  return `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`
}

/** Returns the bytes of a request. A body without a Content-Length gets one. */
export function requestBytes({ method, target, headers = {}, body }: RawRequest): Buffer {
  const lengths = body === undefined || hasLength(headers) ? {} : { 'Content-Length': body.length }
  const lines = Object.entries({ Host: 'registry.test', ...lengths, ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')
  return Buffer.concat([
    Buffer.from(`${method} `, 'latin1'),
    typeof target === 'string' ? Buffer.from(target, 'latin1') : target,
    Buffer.from(` HTTP/1.1\r\n${lines}\r\n`, 'latin1'),
    body ?? Buffer.alloc(0),
  ])
}

function hasLength(headers: Readonly<Record<string, string>>): boolean {
  return Object.keys(headers).some((name) =>
    ['content-length', 'transfer-encoding'].includes(name.toLowerCase()),
  )
}

/** One TCP connection, on which a test controls the bytes and their timing. */
export class RawConnection {
  readonly socket: Socket
  /** Resolves when the server closes the connection in any way. */
  readonly closed: Promise<void>
  #chunks: Buffer[] = []
  #length = 0
  #ended = false
  #wake: () => void = () => {}

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk)
      this.#length += chunk.length
      this.#wake()
    })
    // A reset ends the connection too; the bytes before it count.
    socket.on('error', () => {})
    this.closed = new Promise((resolve) => {
      const ended = () => {
        this.#ended = true
        this.#wake()
        resolve()
      }
      socket.once('end', ended)
      socket.once('close', ended)
    })
  }

  static async open(url: string): Promise<RawConnection> {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new RawConnection(socket)
  }

  get usable(): boolean {
    return !this.#ended && !this.socket.destroyed
  }

  /** Resolves when the kernel took the bytes, or the server closed the connection. */
  async send(bytes: string | Uint8Array): Promise<void> {
    if (!this.usable) return
    const data = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes
    const written = new Promise<void>((resolve) => this.socket.write(data, () => resolve()))
    await Promise.race([written, this.closed])
  }

  /** Returns the next answer, also an interim one such as 100. Throws NoAnswerError. */
  async answer(method = 'GET', millisecondsMax = ANSWER_MILLISECONDS_MAX): Promise<RawAnswer> {
    const until = performance.now() + millisecondsMax
    let end = this.#received.indexOf(END_OF_HEAD)
    while (end === -1) {
      await this.#more(until)
      end = this.#received.indexOf(END_OF_HEAD)
    }
    const [start = '', ...lines] = this.#take(end + END_OF_HEAD.length)
      .toString('latin1')
      .trimEnd()
      .split('\r\n')
    const headers = new Map(lines.map(headerOf))
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(start)?.[1])
    const bodiless = method === 'HEAD' || status < 200 || status === 204 || status === 304
    const body = bodiless ? Buffer.alloc(0) : await this.#body(headers, until)
    return { status, headers, body }
  }

  close(): void {
    this.socket.destroy()
  }

  async #body(headers: ReadonlyMap<string, string>, until: number): Promise<Buffer> {
    const length = headers.get('content-length')
    if (length !== undefined) return this.#exactly(Number(length), until)
    if (headers.get('transfer-encoding') !== 'chunked') {
      while (!this.#ended) await this.#more(until).catch(() => {})
      return this.#take(this.#length)
    }
    const chunks: Buffer[] = []
    for (;;) {
      while (!this.#received.includes('\r\n')) await this.#more(until)
      const line = this.#take(this.#received.indexOf('\r\n') + 2).toString('latin1')
      const size = Number.parseInt(line, 16)
      chunks.push((await this.#exactly(size + 2, until)).subarray(0, size))
      if (size === 0) return Buffer.concat(chunks)
    }
  }

  async #exactly(size: number, until: number): Promise<Buffer> {
    while (this.#length < size) await this.#more(until)
    return this.#take(size)
  }

  #take(size: number): Buffer {
    const received = this.#received
    const rest = received.subarray(size)
    this.#chunks = [rest]
    this.#length = rest.length
    return received.subarray(0, size)
  }

  /** The bytes that nobody took. Joined when they are looked at, and not for each chunk of a long body. */
  get #received(): Buffer {
    const [first = Buffer.alloc(0), ...more] = this.#chunks
    if (more.length === 0) return first
    const joined = Buffer.concat(this.#chunks)
    this.#chunks = [joined]
    return joined
  }

  async #more(until: number): Promise<void> {
    const so = `of the answer, ${this.#length} bytes are here`
    if (this.#ended) throw new NoAnswerError(`the connection closed too early: ${so}`)
    const left = until - performance.now()
    if (left <= 0) throw new NoAnswerError(`no answer in time: ${so}`)
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, left)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

function headerOf(line: string): [string, string] {
  const colon = line.indexOf(':')
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}

/** Sends one request at a time on a persistent connection, and reconnects when it was closed. */
export class RawClient {
  readonly #url: string
  #connection: RawConnection | undefined

  constructor(url: string) {
    this.#url = url
  }

  /** Throws NoAnswerError. */
  async request(request: RawRequest): Promise<RawAnswer> {
    if (!this.#connection?.usable) this.#connection = await RawConnection.open(this.#url)
    const connection = this.#connection
    try {
      void connection.send(requestBytes(request))
      let answer = await connection.answer(request.method)
      while (answer.status < 200) answer = await connection.answer(request.method)
      if (answer.headers.get('connection') === 'close') this.close()
      return answer
    } catch (error) {
      this.close()
      throw error
    }
  }

  close(): void {
    this.#connection?.close()
    this.#connection = undefined
  }
}
