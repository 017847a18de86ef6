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
  /** Answers that the store itself gives; the request does not reach it. */
  | '500'
  | 'slow down'
  | 'forbidden'
  /** A failure behind a status that says that all is well, as S3 does when it notices late. */
  | '200 and an error'
  /** Takes the whole request, passes nothing on, and never answers. */
  | 'hang'
  /** Takes the whole request, passes nothing on, and closes the connection. */
  | 'cut'
  /** Closes the connection in the middle of the request's body. */
  | 'cut the request'
  /** Passes it on, and half of the answer's body back. */
  | 'cut the answer'
  /** Passes it on, and the answer's head back, and nothing of its body. */
  | 'cut behind the head'
  /** Passes half of the answer's body back, and then nothing more. */
  | 'stall the answer'
  /** The store did it, and the connection closes before its answer. */
  | 'lose the answer'
  /** The store did it, and its answer never comes. */
  | 'hold the answer'

/** Which requests: an operation, or what `Operation METHOD /path?query` looks like; undefined is all. */
export type Matching = Operation | RegExp | undefined

/** Which of the requests that match; without it all of them, until the fault is cleared. */
export type Times = { readonly first: number } | { readonly nth: number }

/** A fault that was asked for. */
export type Injected = {
  /** Requests that it has met. */
  readonly met: number
  /** Resolves when it has met a request, and did with it what it does before it stands still. */
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
 * Stands between a registry and an object store, and breaks what it is told to break. Everything else
 * passes as it came, with its Host, which is signed.
 */
export class FaultProxy {
  readonly url: string
  /** Every operation that was asked for, in order. */
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
      // Whoever asked may be gone, which is nothing to tell anybody.
      this.#handle(req, res).catch(() => res.destroy())
    })
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer({ requestTimeout: 0, keepAliveTimeout: 0 })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FaultProxy(server, new URL(target))
  }

  /** From now on `fault` meets the requests that match; of several, the one asked for first. */
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

  /** Everything passes again. */
  clear(): void {
    this.#rules = []
  }

  /** Closes what is open, too. */
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

/** As S3 says it. */
function refusal(fault: keyof typeof REFUSALS): Answer {
  const [status, code] = REFUSALS[fault]
  const body = Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>told to</Message></Error>`,
  )
  const headers = ['Content-Type', 'application/xml', 'Content-Length', String(body.length)]
  return { status, headers, body }
}

/** All bytes, or at least so many. */
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

/** By method, path style (`/bucket/key`) and query. */
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
