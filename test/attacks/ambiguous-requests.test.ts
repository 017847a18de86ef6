import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RawConnection } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry?.close())

/** Returns the status of the answer to these bytes; `closed` when there is none. */
async function statusOf(bytes: string): Promise<number | 'closed'> {
  const connection = await RawConnection.open(registry.url)
  try {
    await connection.send(bytes)
    return (await connection.answer('GET', 3_000)).status
  } catch {
    return 'closed'
  } finally {
    connection.close()
  }
}

describe('a request that a proxy may read in another way is 400 (RFC 9112)', () => {
  it.each([
    ['two Host headers', 'GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
    ['the same Host twice', 'GET /healthz HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n'],
    ['no Host', 'GET /healthz HTTP/1.1\r\n\r\n'],
    ['a Host with a space', 'GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n'],
    ['a Host with a path', 'GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['a Host with a user', 'GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n'],
    ['two Hosts in one header', 'GET /healthz HTTP/1.1\r\nHost: a, b\r\n\r\n'],
    ['no version', 'GET /healthz\r\n\r\n'],
    ['no version, with headers', 'GET /healthz\r\nHost: a\r\n\r\n'],
    ['the version 0.9', 'GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n'],
    ['the version 2.0', 'GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n'],
    ['a fragment', 'GET /healthz#a HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a space in the target', 'GET /healthz /b HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a space before the colon', 'GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n'],
    ['a folded header', 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n'],
    [
      'a header line before Host that begins with a space',
      'GET /healthz HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n',
    ],
    ['a NUL in a header', 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n'],
    ['a bare CR in a header', 'GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n'],
    [
      'two lengths',
      'POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
    ],
    [
      'a length that is no number',
      'POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na',
    ],
    [
      'a length and chunks',
      'POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'an encoding that does not end with chunked',
      'POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n',
    ],
    [
      'an unknown encoding',
      'POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'chunks in HTTP/1.0',
      'POST /token HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a lower-case method', 'get /healthz HTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('%s', async (_what, bytes) => {
    expect(await statusOf(bytes)).toBe(400)
  })

  it.each([
    ['one Host', 'GET /healthz HTTP/1.1\r\nHost: registry.example:5000\r\n\r\n'],
    ['an empty Host', 'GET /healthz HTTP/1.1\r\nHost:\r\n\r\n'],
    ['a Host that is an IPv6 address', 'GET /healthz HTTP/1.1\r\nHost: [::1]:5000\r\n\r\n'],
    ['HTTP/1.0 without Host', 'GET /healthz HTTP/1.0\r\n\r\n'],
    [
      'a URL as target',
      'GET http://registry.example/healthz HTTP/1.1\r\nHost: registry.example\r\n\r\n',
    ],
  ])('while %s is answered', async (_what, bytes) => {
    expect(await statusOf(bytes)).toBe(200)
  })
})
