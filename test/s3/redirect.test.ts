import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { expectError, newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { s3Server } from '../support/s3.ts'

let registry: TestRegistry
let repository: string
let blob: Awaited<ReturnType<typeof pushBlob>>
let path: string

beforeAll(async () => {
  const { endpoint } = s3Server()
  registry = await startRegistry({
    ROOKERY_S3_REDIRECT: 'on',
    // Another name for the same server, as clients reach it.
    ROOKERY_S3_PUBLIC_ENDPOINT: endpoint.replace('127.0.0.1', 'localhost'),
    ROOKERY_S3_PREFIX: 'some/where',
  })
  repository = newRepository()
  blob = await pushBlob(registry, repository, randomBytes(100_000))
  path = `/v2/${repository}/blobs/${blob.digest}`
})

afterAll(() => registry.close())

async function linkOf(headers: Record<string, string> = {}): Promise<string> {
  const answer = await registry.anonymous(path, { headers })
  expect(answer.status).toBe(307)
  expect(answer.headers.get('docker-content-digest')).toBe(blob.digest)
  expect(answer.headers.get('content-length')).toBe('0')
  return answer.headers.get('location') ?? ''
}

it('GET redirects a client to the store, which returns the bytes without any credential', async () => {
  const link = new URL(await linkOf())
  expect(link.hostname).toBe('localhost')
  expect(link.pathname).toContain('/some/where/blobs/')
  const answer = await fetch(link)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('application/octet-stream')
  expect(Buffer.from(await answer.arrayBuffer()).equals(blob.bytes)).toBe(true)
})

it('the store serves a range', async () => {
  const range = 'bytes=100-199'
  const answer = await fetch(await linkOf({ range }), { headers: { range } })
  expect(answer.status).toBe(206)
  const bytes = Buffer.from(await answer.arrayBuffer())
  expect(bytes.equals(blob.bytes.subarray(100, 200))).toBe(true)
})

it.each(['bytes=100000-', 'bytes=500-0', 'bytes=-0'])(
  '%s is 416 without a redirect',
  async (range) => {
    const answer = await registry.anonymous(path, { headers: { range } })
    expect(answer.headers.get('content-range')).toBe('bytes */100000')
    await expectError(answer, 416, 'RANGE_INVALID')
  },
)

it.each([
  [
    'If-Range with our ETag',
    () => ({ 'if-range': `"${blob.digest}"`, range: 'bytes=0-9' }),
    206,
    10,
  ],
  ['If-Range with another', () => ({ 'if-range': '"x"', range: 'bytes=0-9' }), 200, 100_000],
  ['two ranges', () => ({ range: 'bytes=0-1,5-6' }), 200, 100_000],
  ['a range that is none', () => ({ range: 'bytes=x-y' }), 200, 100_000],
])('%s is answered by the registry itself', async (_what, headers, status, length) => {
  const answer = await registry.anonymous(path, { headers: headers() })
  expect(answer.status).toBe(status)
  expect((await answer.arrayBuffer()).byteLength).toBe(length)
})

it('HEAD, and GET of a cached blob, are answered by the registry itself', async () => {
  const head = await registry.anonymous(path, { method: 'HEAD' })
  expect(head.status).toBe(200)
  expect(head.headers.get('content-length')).toBe('100000')
  const cached = { 'if-none-match': `"${blob.digest}"` }
  expect((await registry.anonymous(path, { headers: cached })).status).toBe(304)
})

it('an empty blob needs no store', async () => {
  const empty = await pushBlob(registry, repository, Buffer.alloc(0))
  const answer = await registry.anonymous(`/v2/${repository}/blobs/${empty.digest}`)
  expect(answer.status).toBe(200)
})

it('a caller without permission gets no link, and the link of one blob opens no other', async () => {
  const hidden = await startRegistry({
    ROOKERY_S3_REDIRECT: 'on',
    ROOKERY_DEFAULT_VISIBILITY: 'private',
  })
  try {
    const secret = await pushBlob(hidden, 'some/secret')
    const secretPath = `/v2/some/secret/blobs/${secret.digest}`
    const refused = await hidden.anonymous(secretPath)
    expect(refused.status).toBe(401)
    expect(refused.headers.get('location')).toBeNull()
    expect((await hidden.request(secretPath)).status).toBe(307)
  } finally {
    await hidden.close()
  }
  const link = new URL(await linkOf())
  const other = await pushBlob(registry, repository)
  const answer = await registry.anonymous(`/v2/${repository}/blobs/${other.digest}`)
  const otherPath = new URL(answer.headers.get('location') ?? '').pathname
  const bare = new URL(link)
  bare.search = ''
  expect((await fetch(bare)).status).toBe(403)
  const crossed = new URL(link)
  crossed.pathname = otherPath
  expect((await fetch(crossed)).status).toBe(403)
  const later = new URL(link)
  later.searchParams.set('X-Amz-Expires', '604800')
  expect((await fetch(later)).status).toBe(403)
  expect((await fetch(link, { method: 'DELETE' })).status).toBe(403)
})
