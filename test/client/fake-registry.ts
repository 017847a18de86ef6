import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Digest, digestOf } from '../../src/oci/digest.ts'

/** A request that the fake received. */
export type RecordedRequest = {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

/** Answers a request instead of the fake. Returns true when it did. */
export type Interference = (seen: RecordedRequest, response: ServerResponse) => boolean | undefined

/** A minimal registry of another implementation, with injected faults. */
export class FakeRegistry {
  readonly blobs = new Map<string, Buffer>()
  readonly manifests = new Map<string, { readonly type: string; readonly bytes: Buffer }>()
  readonly seen: RecordedRequest[] = []
  interfere: Interference = () => undefined
  /** True for requests whose connection is cut before the body is read. */
  cut: (method: string, path: string) => boolean = () => false
  readonly #server: Server

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy())
    })
  }

  static async open(): Promise<FakeRegistry> {
    const registry = new FakeRegistry()
    registry.#server.listen(0, '127.0.0.1')
    await once(registry.#server, 'listening')
    return registry
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get place() {
    return { host: this.host, plainHttp: true }
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  /** Counts the received requests. */
  count(method: string, path: RegExp): number {
    return this.seen.filter((one) => one.method === method && path.test(one.path)).length
  }

  put(bytes: Buffer): Digest {
    const digest = digestOf(bytes)
    this.blobs.set(digest, bytes)
    return digest
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://fake')
    const method = request.method ?? ''
    if (this.cut(method, pathname)) {
      request.once('data', () => request.socket.destroy())
      if (request.headers['content-length'] === '0' || method === 'GET') request.socket.destroy()
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const { headers } = request
    const seen = { method, path: pathname, query: searchParams, headers, body }
    this.seen.push(seen)
    if (this.interfere(seen, response)) return
    const [status, more, bytes] = this.#answerTo(seen)
    response.writeHead(status, more).end(method === 'HEAD' ? undefined : bytes)
  }

  #answerTo({ method, path, query, headers, body }: RecordedRequest): FakeResponse {
    const digest = /\/blobs\/(sha256:[0-9a-f]+)$/.exec(path)?.[1]
    const manifest = /\/manifests\/([^/]+)$/.exec(path)?.[1]
    if (digest !== undefined) {
      const bytes = this.blobs.get(digest)
      if (bytes === undefined) return [404, {}]
      const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '')
      if (range === null) return [200, { 'content-length': String(bytes.length) }, bytes]
      return [206, {}, bytes.subarray(Number(range[1]), Number(range[2]) + 1)]
    }
    if (method === 'POST') return [202, { location: '/upload/one?state=a%20b' }]
    if (method === 'PUT' && path.startsWith('/upload/')) {
      const right = digestOf(body)
      if (query.get('digest') !== right) return failure(400, 'DIGEST_INVALID', 'other bytes')
      this.blobs.set(right, body)
      return [201, {}]
    }
    if (manifest !== undefined && method === 'PUT') {
      const manifestPut = { type: headers['content-type'] ?? '', bytes: body }
      this.manifests.set(manifest, manifestPut)
      this.manifests.set(digestOf(body), manifestPut)
      return [201, { 'docker-content-digest': digestOf(body) }]
    }
    const found = this.manifests.get(manifest ?? '')
    if (found === undefined) return failure(404, 'MANIFEST_UNKNOWN', 'no such manifest')
    return [200, { 'content-type': found.type }, found.bytes]
  }
}

type FakeResponse = [status: number, headers: Record<string, string>, body?: Buffer]

/** An error response of the distribution spec. */
export function failure(status: number, code: string, message: string): FakeResponse {
  const body = Buffer.from(JSON.stringify({ errors: [{ code, message }] }))
  return [status, { 'content-type': 'application/json' }, body]
}

/** Answers the first `times` matching requests with `play`. */
export function first(
  times: number,
  fits: (seen: RecordedRequest) => boolean,
  play: (response: ServerResponse, seen: RecordedRequest) => void,
): Interference {
  let left = times
  return (seen, response) => {
    if (left === 0 || !fits(seen)) return false
    left -= 1
    play(response, seen)
    return true
  }
}
