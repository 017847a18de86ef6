import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import { anyEncoding, anyHeader, anyText, checkProperty, FuzzTarget } from './fuzz-target.ts'

const BLOB = randomBytes(1000)
const EMPTY = Buffer.from('{}')
const TAGS = Array.from({ length: 12 }, (_, index) => `tag-${index}`).sort()
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    config: { mediaType: EMPTY_JSON, digest: digestOf(EMPTY), size: 2 },
    layers: [],
  }),
)

let target: FuzzTarget
let location: string

beforeAll(async () => {
  target = await FuzzTarget.open()
  await target.push('known', BLOB)
  await target.push('known', EMPTY)
  for (const tag of TAGS) {
    const { status } = await target.request({
      method: 'PUT',
      target: `/v2/known/manifests/${tag}`,
      headers: { 'Content-Type': IMAGE_MANIFEST },
      body: MANIFEST,
    })
    expect(status).toBe(201)
  }
  const started = await target.request({ method: 'POST', target: '/v2/known/blobs/uploads/' })
  location = started.headers.get('location') ?? ''
})

afterAll(() => target.close())

const edge = fc.oneof(fc.nat({ max: 1200 }), fc.constantFrom(0, 1, 998, 999, 1000, 1001, 2 ** 53))
const range = fc.oneof(
  fc.tuple(edge, edge).map(([from, to]) => `bytes=${from}-${to}`),
  edge.map((from) => `bytes=${from}-`),
  edge.map((last) => `bytes=-${last}`),
  fc.tuple(edge, edge).map(([from, to]) => `bytes=${from}-${to}, ${to}-`),
  anyHeader.map((text) => `bytes=${text}`),
  anyHeader,
)

it('any Range: the whole, exactly the part that Content-Range says, or 416', async () => {
  await checkProperty(
    range,
    async (header) => {
      const { status, headers, body } = await target.request({
        method: 'GET',
        target: `/v2/known/blobs/${digestOf(BLOB)}`,
        headers: { Range: header },
      })
      expect([200, 206, 416]).toContain(status)
      if (status === 200) expect(body.equals(BLOB)).toBe(true)
      if (status === 416) expect(headers.get('content-range')).toBe(`bytes */${BLOB.length}`)
      const asked = /^bytes=(\d*)-(\d*)$/.exec(header.trim())
      if (status === 206) {
        const [, from, to] =
          /^bytes (\d+)-(\d+)\/1000$/.exec(headers.get('content-range') ?? '') ?? []
        expect(body.equals(BLOB.subarray(Number(from), Number(to) + 1))).toBe(true)
        expect(body.length).toBe(Number(to) - Number(from) + 1)
        if (asked?.[1]) expect(from).toBe(String(Number(asked[1])))
      } else if (asked?.[1] && asked[2]) {
        const [, first, last] = asked.map(Number)
        const satisfiable = Number(first) < BLOB.length && Number(first) <= Number(last)
        expect(satisfiable).toBe(false)
      }
    },
    1000,
  )
})

it('any Content-Range: the session is at the position of its Range, and stays usable', async () => {
  let size = 0
  const chunkRange = fc.oneof(
    fc.tuple(fc.constantFrom(-1, 0, 1), fc.nat({ max: 20 })),
    anyHeader,
    fc.tuple(edge, edge).map(([from, to]) => `${from}-${to}`),
  )
  await checkProperty(
    fc.tuple(chunkRange, fc.uint8Array({ maxLength: 20 })),
    async ([given, chunk]) => {
      const start = typeof given === 'string' ? 0 : size + given[0]
      const header = typeof given === 'string' ? given : `${start}-${start + given[1] - 1}`
      const { status, headers } = await target.request({
        method: 'PATCH',
        target: location,
        headers: { 'Content-Range': header },
        body: chunk,
      })
      expect([202, 400, 416]).toContain(status)
      if (status === 202) {
        expect(
          header
            .trim()
            .replace(/^0+(?=\d)/, '')
            .startsWith(`${size}-`),
        ).toBe(true)
        size += chunk.length
      }
      if (status !== 400) expect(headers.get('range')).toBe(`0-${Math.max(0, size - 1)}`)
    },
    600,
  )
  const { status, headers } = await target.request({ method: 'GET', target: location })
  expect(status).toBe(204)
  expect(headers.get('range')).toBe(`0-${Math.max(0, size - 1)}`)
})

it('any n and last: the page after last, or 400', async () => {
  const number = fc.oneof(fc.nat({ max: 20 }).map(String), anyText)
  const last = fc.oneof(fc.constantFrom(...TAGS), anyText)
  await checkProperty(
    fc.tuple(number, last, anyEncoding),
    async ([n, after, write]) => {
      const { status, headers, body } = await target.request({
        method: 'GET',
        target: `/v2/known/tags/list?n=${write(n)}&last=${write(after)}`,
      })
      expect([200, 400]).toContain(status)
      // + and & have another meaning without encoding.
      if (/^\d{1,15}$/.test(n) && /^[\w.-]*$/.test(after)) {
        expect(status).toBe(200)
        const rest = TAGS.filter((tag) => Buffer.compare(Buffer.from(tag), Buffer.from(after)) > 0)
        const page = rest.slice(0, Number(n))
        expect(JSON.parse(body.toString())).toEqual({ name: 'known', tags: page })
        expect(headers.has('link')).toBe(Number(n) > 0 && page.length < rest.length)
      }
    },
    900,
  )
})

it('any values of every query parameter, everywhere', async () => {
  const NAMES = [
    ...['n', 'last', 'tag', 'mount', 'from', 'digest', 'digest-algorithm', 'artifactType', 'ns'],
    ...['__proto__', 'constructor', ''],
  ]
  const PLACES = [
    ['GET', '/v2/_catalog'],
    ['GET', '/v2/known/tags/list'],
    ['GET', `/v2/known/referrers/${digestOf(MANIFEST)}`],
    ['POST', '/v2/known/blobs/uploads/'],
    ['PUT', '/v2/known/manifests/tag-0'],
    ['PUT', '/v2/known/blobs/uploads/0b5e8a0e-0000-4000-8000-000000000000'],
    ['GET', `/v2/known/blobs/${digestOf(BLOB)}`],
    ['DELETE', '/v2/known/manifests/none'],
  ] as const
  const value = fc.oneof(
    anyText,
    fc.constantFrom(digestOf(BLOB), digestOf(EMPTY), 'known', 'sha256', 'sha512', 'tag-1'),
  )
  const pairs = fc.array(fc.tuple(fc.constantFrom(...NAMES), value, anyEncoding), {
    minLength: 1,
    maxLength: 4,
  })
  await checkProperty(
    fc.tuple(fc.constantFrom(...PLACES), pairs),
    async ([[method, path], parameters]) => {
      const query = parameters.map(([name, text, write]) => `${name}=${write(text)}`).join('&')
      await target.request({
        method,
        target: `${path}?${query}`,
        headers: { 'Content-Type': IMAGE_MANIFEST },
        ...(method === 'PUT' ? { body: MANIFEST } : {}),
        ...(method === 'POST' ? { body: EMPTY } : {}),
      })
    },
    1500,
  )
})

it('any value of every header that Rookery reads', async () => {
  const NAMES = [
    ...[
      'Authorization',
      'If-Match',
      'If-None-Match',
      'If-Range',
      'Range',
      'Accept',
      'Content-Type',
    ],
    ...['X-Forwarded-For', 'Content-Range', 'Origin', 'Cookie', 'X-Request-Id'],
  ]
  const value = fc.oneof(
    anyHeader,
    anyHeader.map((text) => `Basic ${Buffer.from(text, 'latin1').toString('base64')}`),
    anyHeader.map((text) => `Bearer ${text}`),
    anyHeader.map((text) => `"${text}", W/"${text}"`),
    fc.constant('"",'.repeat(3000)),
  )
  await checkProperty(
    fc.tuple(
      fc.constantFrom('GET', 'HEAD', 'PUT', 'DELETE'),
      fc.constantFrom(`manifests/${digestOf(MANIFEST)}`, `blobs/${digestOf(BLOB)}`, 'tags/list'),
      fc.constantFrom(...NAMES),
      value,
    ),
    async ([method, path, name, text]) => {
      // The blob that the other cases read must stay.
      const kept = method === 'DELETE' ? path.replaceAll('sha256:', 'sha256:0') : path
      await target.request({
        method,
        target: `/v2/known/${kept}`,
        headers: { 'Content-Type': IMAGE_MANIFEST, [name]: text },
        ...(method === 'PUT' ? { body: MANIFEST } : {}),
      })
    },
    900,
  )
})
