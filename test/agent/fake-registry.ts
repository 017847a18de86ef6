import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { calculateJwkThumbprint, importJWK, type JWK, jwtVerify } from 'jose'
import { digestOf } from '../support/digest.ts'

/** A report of a unit. */
export type Report = {
  readonly unit: string
  readonly state: string
  readonly kernel: string
  readonly deployment?: string
  readonly reason?: string
  readonly message?: string
  readonly healthySeconds?: string
  readonly exit?: { readonly code: number; readonly meaning: string }
  readonly log?: string
  readonly follows: { readonly repository: string; readonly tag: string; readonly target?: string }
  readonly bootId: string
  readonly sequence: number
  readonly devices?: readonly string[]
  readonly tenders?: readonly unknown[]
}

type Line = {
  digest: string
  kernel: string
  url: string
  deployment: string
  watch: number
  seen: string
}

/** Fields of a report that are digits, and nothing else. */
const NUMBERS = ['sequence', 'healthySeconds']
const ASSERTION_SECONDS_MAX = 300
const CLOCK_SECONDS = 30
let deployments = 0

/** Returns an id of a deployment. Later ones are greater, as in UUIDs of version 7. */
function nextDeployment(): string {
  deployments += 1
  return `019a0000-0000-7000-8000-${String(deployments).padStart(12, '0')}`
}

/**
 * The part of a registry that an agent speaks with, by the wire format of spec/http-api.md, with faults that a registry
 * does not have.
 */
export class FakeRegistry {
  readonly reports: Report[] = []
  readonly requests: string[] = []
  readonly blobs = new Map<string, Buffer>()
  readonly deleted: string[] = []
  /** Answers to GET of a blob, before the ordinary one. */
  readonly downloads: ((request: IncomingMessage, response: ServerResponse) => boolean)[] = []
  /** The text of every answer to `desired`, if it is not the real one. */
  answer: string | undefined
  /** Answers to `desired` that break off behind their ETag. */
  cuts = 0
  /** Milliseconds by which the clock of the registry is ahead. */
  ahead = 0
  mayReport = true
  /** True while it has no database: reports are refused, and questions wait. */
  isWithoutDatabase = false
  url = ''
  #server: Server | undefined
  #lines = new Map<string, Line>()
  #tokens = new Set<string>()
  #keys = new Map<string, JWK>()
  #jtis = new Set<string>()
  #waiting = new Set<() => void>()

  async start(port = 0): Promise<this> {
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch((error) => {
        response.writeHead(500).end(String(error))
      })
    })
    this.#server.listen(port, '127.0.0.1')
    await once(this.#server, 'listening')
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
    return this
  }

  async stop(): Promise<void> {
    this.#server?.closeAllConnections()
    const closed = new Promise((resolve) => this.#server?.close(resolve))
    await closed
  }

  /** Makes a kernel the one that a unit should run, and returns its digest and the deployment. */
  want(
    unit: string,
    bytes: string | Buffer,
    { repository = 'builds/www', watch = 1, ...more }: Partial<Line> & { repository?: string } = {},
  ): { kernel: string; deployment: string } {
    const buffer = Buffer.from(bytes)
    const kernel = digestOf(buffer)
    this.blobs.set(kernel, buffer)
    const deployment = nextDeployment()
    const url = `${this.url}/v2/${repository}/blobs/${kernel}`
    const seen = this.#lines.get(unit)?.seen ?? '-'
    const digest = digestOf(`manifest of ${kernel}`)
    this.#lines.set(unit, { digest, kernel, url, deployment, watch, seen, ...more })
    this.wake()
    return { kernel, deployment }
  }

  /** Ends all waiting questions. */
  wake(): void {
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  revokeTokens(): void {
    this.#tokens.clear()
  }

  /** The last report of a unit, or undefined. */
  last(unit: string): Report | undefined {
    return this.reports.findLast((one) => one.unit === unit)
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.url)
    this.requests.push(`${request.method} ${pathname}`)
    response.setHeader('Date', new Date(Date.now() + this.ahead).toUTCString())
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = new Response(Buffer.concat(chunks), {
      headers: { 'content-type': request.headers['content-type'] ?? 'text/plain' },
    })
    if (pathname === '/.well-known/openid-configuration') {
      return sendJson(response, 200, { issuer: this.url })
    }
    if (pathname === '/api/v1/hosts/enrol') return this.#enrol(await body.formData(), response)
    if (pathname === '/token') return this.#token(await body.formData(), response)
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1] ?? ''
    if (!this.#tokens.has(token)) return sendJson(response, 401, { errors: [] })
    const unit = /^\/api\/v1\/hosts\/web-1\/units\/([^/]+)$/.exec(pathname)?.[1]
    if (unit !== undefined && request.method === 'PUT') {
      return this.#report(unit, await body.formData(), response)
    }
    if (unit !== undefined && request.method === 'DELETE') {
      this.deleted.push(unit)
      this.#lines.delete(unit)
      response.writeHead(204).end()
      return
    }
    if (pathname === '/api/v1/hosts/web-1/desired') {
      return this.#desired(Number(searchParams.get('wait')), request, response)
    }
    if (pathname.startsWith('/v2/')) return this.#download(pathname, request, response)
    sendJson(response, 404, { errors: [] })
  }

  async #enrol(form: FormData, response: ServerResponse): Promise<void> {
    const jwk = JSON.parse(String(form.get('jwk'))) as JWK
    const problem = await this.#problemOf(String(form.get('proof')), jwk)
    if (problem !== undefined) return sendJson(response, 400, { errors: [{ message: problem }] })
    if (form.get('code') !== 'right-code') {
      return sendJson(response, 403, { errors: [{ message: 'the code is wrong' }] })
    }
    const thumbprint = await calculateJwkThumbprint(jwk)
    this.#keys.set(thumbprint, jwk)
    sendJson(response, 201, { host: form.get('name'), state: 'active', fingerprint: thumbprint })
  }

  async #token(form: FormData, response: ServerResponse): Promise<void> {
    const assertion = String(form.get('assertion'))
    const [head = ''] = assertion.split('.')
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { kid: string }
    const jwk = this.#keys.get(kid)
    const problem = jwk === undefined ? 'no such key' : await this.#problemOf(assertion, jwk)
    if (problem !== undefined) {
      return sendJson(response, 400, { error: 'invalid_grant', error_description: problem })
    }
    const token = `token.${randomBytes(12).toString('base64url')}`
    this.#tokens.add(token)
    sendJson(response, 200, { access_token: token, token_type: 'Bearer', expires_in: 900 })
  }

  /** Says what is wrong with an assertion. */
  async #problemOf(assertion: string, jwk: JWK): Promise<string | undefined> {
    const now = Date.now() + this.ahead
    try {
      const thumbprint = await calculateJwkThumbprint(jwk)
      const { payload, protectedHeader } = await jwtVerify(
        assertion,
        await importJWK(jwk, 'ES256'),
        {
          ...{ audience: this.url, issuer: thumbprint, subject: thumbprint },
          ...{ currentDate: new Date(now), clockTolerance: CLOCK_SECONDS },
        },
      )
      const { exp = 0, iat = 0, jti = '' } = payload
      if (protectedHeader.kid !== thumbprint) return 'kid is wrong'
      if (exp > now / 1000 + ASSERTION_SECONDS_MAX + CLOCK_SECONDS) return 'exp is too late'
      if (iat > now / 1000 + CLOCK_SECONDS) return 'iat is in the future'
      if (jti === '' || this.#jtis.has(jti)) return 'jti was used'
      this.#jtis.add(jti)
      return undefined
    } catch (error) {
      return error instanceof Error ? error.message : String(error)
    }
  }

  async #report(unit: string, form: FormData, response: ServerResponse): Promise<void> {
    if (this.isWithoutDatabase) return sendJson(response, 503, { errors: [] })
    if (!this.mayReport) return sendJson(response, 403, { errors: [{ message: 'not yours' }] })
    const report: Record<string, unknown> = { unit }
    for (const [name, value] of form) {
      const text = typeof value === 'string' ? value : await value.text()
      if (NUMBERS.includes(name) && !/^\d+$/.test(text)) {
        const message = `${name} must be a whole number`
        return sendJson(response, 400, { errors: [{ message }] })
      }
      const isJson = ['follows', 'exit', 'devices', 'tenders', 'sequence'].includes(name)
      report[name] = isJson ? JSON.parse(text) : text
    }
    const said = report as Report
    const line = this.#lines.get(unit)
    const isStale = this.reports.some(
      (one) => one.unit === unit && one.bootId === said.bootId && one.sequence >= said.sequence,
    )
    this.reports.push(said)
    if (!isStale) {
      const none = { digest: '-', kernel: '-', url: '-', deployment: '-', watch: 0 }
      this.#lines.set(unit, { ...(line ?? none), seen: said.state })
      this.wake()
    }
    sendJson(response, 200, { stale: isStale })
  }

  async #desired(wait: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const given = request.headers['if-none-match']
    if (given === this.#etag() && wait > 0) {
      await new Promise<void>((resolve) => {
        this.#waiting.add(resolve)
        setTimeout(resolve, wait * 1000).unref()
        response.on('close', resolve)
      })
    }
    const etag = this.#etag()
    response.setHeader('ETag', etag)
    if (given === etag) {
      response.writeHead(304).end()
      return
    }
    if (this.cuts > 0) {
      this.cuts -= 1
      breakOff(response, `ETag: ${etag}\r\nContent-Ty`)
      return
    }
    response.writeHead(200, { 'content-type': 'text/plain' }).end(this.#text())
  }

  #text(): string {
    if (this.answer !== undefined) return this.answer
    return [...this.#lines]
      .map(([name, { digest, kernel, url, deployment, watch, seen }]) =>
        [name, digest, kernel, url, deployment, watch, '-', seen].join('\t').concat('\n'),
      )
      .join('')
  }

  #etag(): string {
    return `"${createHash('sha256').update(this.#text()).digest('hex').slice(0, 16)}"`
  }

  #download(path: string, request: IncomingMessage, response: ServerResponse): void {
    if (this.downloads.at(0)?.(request, response)) {
      this.downloads.shift()
      return
    }
    const blob = this.blobs.get(path.slice(path.lastIndexOf('/') + 1))
    if (blob === undefined) {
      sendJson(response, 404, { errors: [] })
      return
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    if (from > 0) {
      const range = `bytes ${from}-${blob.length - 1}/${blob.length}`
      response.writeHead(206, { 'content-range': range }).end(blob.subarray(from))
      return
    }
    response.writeHead(200, { 'content-length': blob.length }).end(blob)
  }
}

/** Sends the start of an answer, up to the middle of its headers. */
export function breakOff(response: ServerResponse, headers: string): void {
  response.socket?.end(`HTTP/1.1 200 OK\r\n${headers}`)
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}
