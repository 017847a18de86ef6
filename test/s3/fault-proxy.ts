import { once } from 'node:events'
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { vi } from 'vitest'

export type Operation =
  | 'PutObject'
  | 'GetObject'
  | 'HeadObject'
  | 'DeleteObject'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'
  | 'HeadBucket'
  | 'List'

export type Fault =
  /** Error responses of a store. The request does not reach the store. */
  | '500'
  | 'slow down'
  | 'forbidden'
  /** A failure after a success status, as S3 sends it when it fails late. */
  | '200 and an error'
  /** Reads the whole request, forwards nothing, and never responds. */
  | 'hang'
  /** Reads the whole request, forwards nothing, and closes the connection. */
  | 'cut'
  /** Closes the connection in the middle of the request's body. */
  | 'cut the request'
  /** Forwards the request, returns half of the response's body, and closes the connection. */
  | 'cut the answer'
  /** Forwards the request, returns the head of the response, and closes the connection. */
  | 'cut behind the head'
  /** Returns half of the response's body, and then stalls. */
  | 'stall the answer'
  /** Forwards the request, and closes the connection before the response. */
  | 'lose the answer'
  /** Forwards the request, and never returns the response. */
  | 'hold the answer'

/** Selects requests: an operation, or a pattern for `Operation METHOD /path?query`; undefined selects all. */
export type Matching = Operation | RegExp | undefined

/** The numbers of the matching requests; undefined: all of them, until the fault is cleared. */
export type Times = { readonly first: number } | { readonly nth: number }

/** An active fault. */
export type Injected = {
  /** Requests that it has affected. */
  readonly met: number
  /** Resolves when it has affected a request, and for a stall, when the stall has begun. */
  reached(): Promise<void>
}

type Rule = {
  readonly fault: Fault
  readonly on: Matching
  readonly times: Times | undefined
  matched: number
  met: number
  acted: number
}

type Answer = { readonly status: number; readonly headers: string[]; readonly body: Buffer }

const REACHED_MILLISECONDS_MAX = 10_000
const REFUSALS = {
  '500': [500, 'InternalError'],
  'slow down': [503, 'SlowDown'],
  forbidden: [403, 'AccessDenied'],
  '200 and an error': [200, 'InternalError'],
} as const

/**
 * A proxy between a registry and an object store that injects faults. It forwards all other requests unchanged, with their signed Host.
 */
export class FaultProxy {
  readonly url: string
  /** Every requested operation, in order. */
  readonly seen: Operation[] = []
  readonly #server: Server
  readonly #target: URL
  readonly #agent = new Agent({ keepAlive: true })
  #rules: Rule[] = []

  private constructor(server: Server, target: URL) {
    this.#server = server
    this.#target = target
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    server.on('request', (req: IncomingMessage, res: ServerResponse) => {
      // The client may have closed the connection, which is no error of the test.
      this.#handle(req, res).catch(() => res.destroy())
    })
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer({ requestTimeout: 0, keepAliveTimeout: 0 })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FaultProxy(server, new URL(target))
  }

  /** Injects `fault` into matching requests from now on. The oldest matching fault applies. */
  inject(fault: Fault, on: Matching, times?: Times): Injected {
    const rule: Rule = { fault, on, times, matched: 0, met: 0, acted: 0 }
    this.#rules.push(rule)
    return {
      get met() {
        return rule.met
      },
      async reached() {
        const check = (): void => {
          if (rule.acted === 0) throw new Error(`no request met: ${fault}, ${String(on)}`)
        }
        await vi.waitFor(check, { timeout: REACHED_MILLISECONDS_MAX, interval: 5 })
      },
    }
  }

  /** Clears all faults. */
  clear(): void {
    this.#rules = []
  }

  /** Closes the proxy and its open connections. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    this.#agent.destroy()
    await closed
  }

  #ruleFor(operation: Operation, line: string): Rule | undefined {
    for (const rule of this.#rules) {
      const { on, times } = rule
      if (on instanceof RegExp ? !on.test(line) : on !== undefined && on !== operation) continue
      rule.matched += 1
      if (times !== undefined && 'first' in times && rule.matched > times.first) continue
      if (times !== undefined && 'nth' in times && rule.matched !== times.nth) continue
      rule.met += 1
      return rule
    }
    return undefined
  }

  async #handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const operation = operationOf(req)
    this.seen.push(operation)
    const rule = this.#ruleFor(operation, `${operation} ${req.method} ${req.url}`)
    if (rule?.fault === 'cut the request') {
      await bytesOf(req, Number(req.headers['content-length'] ?? 0) / 2)
      rule.acted += 1
      req.socket.destroy()
      return
    }
    const body = await bytesOf(req)
    if (rule === undefined) {
      send(res, await this.#forward(req, body))
      return
    }
    await this.#break(rule, req, body, res)
    rule.acted += 1
  }

  async #break({ fault }: Rule, req: IncomingMessage, body: Buffer, res: ServerResponse) {
    if (fault === 'hang') return
    if (fault === 'cut') return req.socket.destroy()
    if (fault in REFUSALS) return send(res, refusal(fault as keyof typeof REFUSALS))
    const answer = await this.#forward(req, body)
    if (fault === 'hold the answer') return
    if (fault === 'lose the answer') return req.socket.destroy()
    res.writeHead(answer.status, answer.headers)
    res.flushHeaders()
    const half = fault === 'cut behind the head' ? 0 : Math.floor(answer.body.length / 2)
    if (half > 0) {
      await new Promise<void>((resolve) => {
        res.write(answer.body.subarray(0, half), () => resolve())
      })
    }
    if (fault === 'stall the answer') return
    await nextTurn()
    req.socket.destroy()
  }

  async #forward(req: IncomingMessage, body: Buffer): Promise<Answer> {
    const passed = httpRequest({
      host: this.#target.hostname,
      port: this.#target.port,
      method: req.method,
      path: req.url,
      headers: req.rawHeaders,
      agent: this.#agent,
    })
    const answered = once(passed, 'response') as Promise<[IncomingMessage]>
    passed.end(body)
    const [answer] = await answered
    const { statusCode: status = 0, rawHeaders: headers } = answer
    return { status, headers, body: await bytesOf(answer) }
  }
}

function send(res: ServerResponse, { status, headers, body }: Answer): void {
  res.writeHead(status, headers)
  res.end(body)
}

/** An error response in S3's format. */
function refusal(fault: keyof typeof REFUSALS): Answer {
  const [status, code] = REFUSALS[fault]
  const body = Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>injected</Message></Error>`,
  )
  const headers = ['Content-Type', 'application/xml', 'Content-Length', String(body.length)]
  return { status, headers, body }
}

/** Reads all bytes, or stops after at least this many. */
async function bytesOf(from: IncomingMessage, atLeast = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of from.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer)
    size += (chunk as Buffer).length
    if (size >= atLeast) break
  }
  return Buffer.concat(chunks)
}

/** Returns the operation of a request from its method, path-style URL (`/bucket/key`) and query. */
function operationOf({ method, url = '' }: IncomingMessage): Operation {
  const { pathname, searchParams } = new URL(url, 'http://store')
  const ofObject = pathname.split('/').filter((part) => part !== '').length > 1
  const ofUpload = searchParams.has('uploadId')
  if (!ofObject) return method === 'HEAD' ? 'HeadBucket' : 'List'
  if (method === 'POST') return ofUpload ? 'CompleteMultipartUpload' : 'CreateMultipartUpload'
  if (method === 'PUT') return ofUpload ? 'UploadPart' : 'PutObject'
  if (method === 'DELETE') return ofUpload ? 'AbortMultipartUpload' : 'DeleteObject'
  return method === 'HEAD' ? 'HeadObject' : 'GetObject'
}
