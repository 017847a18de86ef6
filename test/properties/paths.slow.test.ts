import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { RawClient } from '../support/raw-client.ts'
import { anyEncoding, anyText, checkProperty, FuzzTarget, HOSTILE } from './fuzz-target.ts'

const METHODS = ['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']
const WORDS = [
  ...[
    'v2',
    'blobs',
    'uploads',
    'manifests',
    'tags',
    'list',
    'referrers',
    '_catalog',
    '_oci',
    'ext',
  ],
  ...['discover', 'known', 'latest', 'healthz', 'metrics', '..', '.', '', '%2F', '%2e%2e', ':'],
  digestOf(Buffer.from('{}')),
]

let target: FuzzTarget

beforeAll(async () => {
  target = await FuzzTarget.open()
  await target.push('known', Buffer.from('{}'))
})

afterAll(() => target.close())

function withBody(method: string) {
  return ['PUT', 'POST', 'PATCH'].includes(method) ? { body: Buffer.from('{}') } : {}
}

/** Without bytes that end the request line and so begin a second request. */
function oneLine(bytes: Iterable<number>): Buffer {
  return Buffer.from([...bytes].map((byte) => (byte === 10 || byte === 13 ? 46 : byte)))
}

it('any bytes in the request line below /v2/', async () => {
  await checkProperty(
    fc.tuple(fc.constantFrom(...METHODS), fc.uint8Array({ maxLength: 60 })),
    async ([method, bytes]) => {
      const path = Buffer.concat([Buffer.from('/v2/'), oneLine(bytes)])
      await target.request({ method, target: path, ...withBody(method) })
    },
    1200,
  )
})

it('any bytes as a request target', async () => {
  await checkProperty(
    fc.uint8Array({ minLength: 1, maxLength: 30 }),
    async (bytes) => {
      await target.request({ method: 'GET', target: oneLine(bytes) })
    },
    500,
  )
})

it('the words of the paths in any order', async () => {
  const word = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(...WORDS) },
    { weight: 1, arbitrary: fc.tuple(anyText, anyEncoding).map(([text, write]) => write(text)) },
  )
  await checkProperty(
    fc.tuple(
      fc.constantFrom(...METHODS),
      fc.array(word, { maxLength: 8 }),
      fc.constantFrom('/', '//', '/./', '%2F', '\\'),
      fc.constantFrom('', '/', '?', '?digest=', '?n=1', '#', ';'),
    ),
    async ([method, words, separator, end]) => {
      const path = `/v2/${words.join(separator)}${end}`.slice(0, 60_000)
      await target.request({ method, target: path, ...withBody(method) })
    },
    1200,
  )
})

it('a target with a scheme and a host', async () => {
  const host = fc.oneof(
    fc.constantFrom('registry.test', '[', '[::1', 'a:99999999', 'a:b', '%', '@', 'a@b@c', '..', ''),
    fc.constantFrom(...HOSTILE),
  )
  await checkProperty(
    fc.tuple(fc.constantFrom('http', 'https', 'ftp', 'HTTP'), host, fc.constantFrom(...METHODS)),
    async ([scheme, text, method]) => {
      const authority = oneLine(Buffer.from(text)).toString('latin1')
      await target.request({
        method,
        target: `${scheme}://${authority}/v2/known/tags/list`,
        ...withBody(method),
      })
    },
    500,
  )
})

it('a path of the maximum length does not keep the server busy', async () => {
  const BYTES = 60_000
  for (const piece of [
    '/blobs/uploads',
    '/manifests/',
    'a/',
    'a-',
    '/',
    '%2F',
    '/_oci/ext',
    '..',
    '%',
  ]) {
    const path = `/v2/${piece.repeat(BYTES / piece.length)}`
    for (const method of ['GET', 'POST', 'DELETE']) {
      const begun = performance.now()
      await target.request({ method, target: path })
      expect(performance.now() - begun, `${method} ${piece}`).toBeLessThan(5_000)
    }
  }
})

it('a caller without credentials gets no further than the administrator', async () => {
  const client = new RawClient(target.registry.url)
  await checkProperty(
    fc.tuple(
      fc.constantFrom('PUT', 'POST', 'PATCH', 'DELETE'),
      fc.array(anyText, { maxLength: 4 }),
      anyEncoding,
    ),
    async ([method, words, write]) => {
      const path = `/v2/known/${words.map(write).join('/')}`.slice(0, 60_000)
      const request = { method, target: path, body: Buffer.from('{}') }
      const answer = await client.request(request)
      target.expectWellFormedAnswer(request, answer)
      expect(answer.status).toBeGreaterThanOrEqual(400)
    },
    500,
  )
  client.close()
})
