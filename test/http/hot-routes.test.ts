import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushImage } from '../support/push.ts'
import { basic, requestBytes } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let digest: string
let blob: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_LOG_LEVEL: 'debug' })
  const pushed = await pushImage(registry, 'hot/a', 'v1')
  digest = pushed.digest
  blob = JSON.parse(pushed.body).config.digest
})
afterAll(() => registry.close())

type Headers = Readonly<Record<string, string>>
type Asked = { method: string; target: string; headers: Headers }

/** Returns all bytes of the answer, without what differs between two answers. */
async function answerTo({ method, target, headers }: Asked): Promise<string> {
  const { hostname, port } = new URL(registry.url)
  const socket = connect({ host: hostname, port: Number(port) })
  socket.write(requestBytes({ method, target, headers: { Connection: 'close', ...headers } }))
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk)
  return Buffer.concat(chunks)
    .toString('latin1')
    .replace(/\r\nX-Request-Id: [0-9a-f-]{36}\r\n/, '\r\nX-Request-Id: 1\r\n')
    .replace(/(\r\ntraceresponse: 00-)([0-9a-f]{32})-[0-9a-f]{16}-/, (_, start, id) =>
      id === TRACE ? `${start}${id}-2-` : `${start}2-2-`,
    )
    .replace(/\r\nDate: [^\r]+\r\n/, '\r\nDate: 3\r\n')
}

/** Returns the lines of the access log since the last call, without what differs between two requests. */
function takeLogged(): object[] {
  const lines = registry.log.splice(0).map((line) => JSON.parse(line))
  return lines
    .filter(({ msg }) => msg === 'request')
    .map(({ time: _t, seconds: _s, requestId: _r, trace_id: _i, span_id: _p, ...line }) => line)
}

const unknown = `sha256:${'0'.repeat(64)}`
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'

/** Requests of the hot routes, by the way in which they are answered. */
function targets(): [string, Headers][] {
  const manifests = '/v2/hot/a/manifests'
  return [
    ['/v2/', {}],
    ['/v2/?any=1&more', {}],
    ['/v2/', { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` }],
    ['/v2/', { traceparent: 'nonsense' }],
    ['/v2/', { 'X-Forwarded-For': '192.0.2.1' }],
    ['/v2/', { Origin: 'http://elsewhere.test', 'User-Agent': 'Mozilla/5.0' }],
    ['/v2/', { Host: 'a b' }],
    [`${manifests}/v1`, {}],
    [`${manifests}/v1?ns=docker.io`, {}],
    [`${manifests}/${digest}`, { Accept: 'text/html' }],
    [`${manifests}/v1`, { 'If-None-Match': `"${digest}"` }],
    [`${manifests}/v1`, { 'If-None-Match': '*' }],
    [`${manifests}/v1`, { 'If-None-Match': '"other"' }],
    [`${manifests}/none`, {}],
    [`${manifests}/-none`, {}],
    [`${manifests}/${unknown}`, {}],
    [`${manifests}/sha256:zz`, {}],
    ['/v2/hot/none/manifests/v1', {}],
    ['/v2/Hot/a/manifests/v1', {}],
    [`/v2/hot/a/blobs/${blob}`, {}],
    [`/v2/hot/a/blobs/${blob}`, { 'If-None-Match': blob }],
    [`/v2/hot/a/blobs/${blob}`, { Range: 'bytes=0-1' }],
    [`/v2/hot/a/blobs/${unknown}`, {}],
    ['/v2/hot/a/blobs/sha256:zz', {}],
  ]
}

const callers: readonly (readonly [string, () => Headers])[] = [
  ['anybody', () => ({})],
  ['the administrator', () => ({ Authorization: basic(registry.password) })],
  ['a guesser', () => ({ Authorization: basic('wrong') })],
  ['a holder of a bad token', () => ({ Authorization: 'Bearer a.b.c' })],
]

describe('the answer of a hot route', () => {
  // Only a target that is a path is answered without Koa: a whole URL is the same request on the other way.
  it.each(callers)('is that of any other route, byte for byte: for %s', async (_name, identity) => {
    for (const method of ['GET', 'HEAD']) {
      for (const [path, headers] of targets()) {
        const asked = { method, target: path, headers: { ...headers, ...identity() } }
        registry.log.length = 0
        const hot = await answerTo(asked)
        const hotLogged = takeLogged()
        const other = await answerTo({ ...asked, target: `http://registry.test${path}` })
        expect(hot, `${method} ${path} ${JSON.stringify(headers)}`).toBe(other)
        expect(hot).toMatch(/^HTTP\/1\.1 \d{3} /)
        expect(hotLogged).toHaveLength(1)
        expect(hotLogged).toEqual(takeLogged())
      }
    }
  })
})
