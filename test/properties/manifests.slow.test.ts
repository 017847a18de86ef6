import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { DOCKER_MANIFEST, IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { anyHeader, anyText, checkProperty, FuzzTarget } from './fuzz-target.ts'

const UNKNOWN_TYPE = 'application/vnd.example.unknown+json'
const BLOB = randomBytes(100)
const DIGEST = digestOf(BLOB)

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

const descriptor: Json = {
  mediaType: 'application/octet-stream',
  digest: DIGEST,
  size: BLOB.length,
}
const image: Json = {
  schemaVersion: 2,
  mediaType: IMAGE_MANIFEST,
  artifactType: 'application/vnd.example.v1',
  config: descriptor,
  layers: [descriptor, { ...descriptor, annotations: { title: 'app.hvt' } }],
  subject: descriptor,
  annotations: { 'org.example.key': 'value' },
}
const CHILD = Buffer.from(JSON.stringify(image))
const index: Json = {
  schemaVersion: 2,
  mediaType: IMAGE_INDEX,
  manifests: [
    {
      ...{ mediaType: IMAGE_MANIFEST, digest: digestOf(CHILD), size: CHILD.length },
      platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
    },
  ],
  annotations: { 'org.example.key': 'value' },
}

let target: FuzzTarget

beforeAll(async () => {
  target = await FuzzTarget.open()
  await target.push('known', BLOB)
  expect(await put(CHILD, IMAGE_MANIFEST)).toBe(201)
  expect(await put(Buffer.from(JSON.stringify(index)), IMAGE_INDEX)).toBe(201)
})

afterAll(() => target.close())

const taken = new Set<string>()

/** Pushes it. An accepted manifest is served as the very bytes, a refused one does not exist. */
async function put(bytes: Uint8Array, mediaType: string | undefined): Promise<number> {
  const digest = digestOf(bytes)
  const path = `/v2/known/manifests/${digest}`
  const { status } = await target.request({
    method: 'PUT',
    target: path,
    headers: mediaType === undefined ? {} : { 'Content-Type': mediaType },
    body: bytes,
  })
  if (status === 201) taken.add(digest)
  const got = await target.request({ method: 'GET', target: path })
  expect(got.status).toBe(taken.has(digest) ? 200 : 404)
  if (taken.has(digest)) expect(got.body.equals(bytes)).toBe(true)
  return status
}

/** The referrers of the blob are readable after any push. */
async function expectReferrers(): Promise<void> {
  const { status, body } = await target.request({
    method: 'GET',
    target: `/v2/known/referrers/${DIGEST}`,
  })
  expect(status).toBe(200)
  expect(Array.isArray(JSON.parse(body.toString()).manifests)).toBe(true)
}

const mediaType = fc.constantFrom(
  ...[IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, UNKNOWN_TYPE],
  ...[`${IMAGE_MANIFEST}; charset=utf-8`, 'text/plain', undefined],
)

const odd: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(
    ...[null, true, false, 0, -1, -0, 1.5, 1e308, 2 ** 53, -(2 ** 53), 2 ** 63, '', [], {}],
    ...[[[]], [null], [{}], { a: null }, [descriptor], descriptor, [[descriptor]], DIGEST],
  ),
  anyText,
  fc.constantFrom<Json>('\u0000', '\ud800', '\udfff\ud800', 'a\u0000b', '\u2028', '\u{10ffff}'),
  fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>,
)

const KEYS = [
  ...['mediaType', 'artifactType', 'config', 'layers', 'manifests', 'subject', 'annotations'],
  ...['digest', 'size', 'urls', 'data', 'platform', 'schemaVersion', 'blobs', 'fsLayers'],
  ...['__proto__', 'constructor', 'toString', 'length', '', '\u0000', '\ud800', '0'],
]

/** Lists every place in a value, as the keys that lead to it. */
function placesIn(value: Json, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [path]
  const below = Object.entries(value).flatMap(([key, item]) => placesIn(item, [...path, key]))
  return [path, ...below]
}

type Mutation = { readonly kind: 'set' | 'remove' | 'add'; readonly key: string; readonly to: Json }

function mutated(value: Json, [key, ...rest]: readonly string[], mutation: Mutation): Json {
  if (key === undefined) {
    if (mutation.kind !== 'add') return mutation.to
    if (Array.isArray(value)) return [...value, mutation.to]
    // Keeps __proto__ a key like any other, as JSON.parse does.
    return typeof value === 'object' && value !== null
      ? Object.fromEntries([...Object.entries(value), [mutation.key, mutation.to]])
      : mutation.to
  }
  const entries = Object.entries(value as object).flatMap(([name, item]) => {
    if (name !== key) return [[name, item]]
    return rest.length === 0 && mutation.kind === 'remove'
      ? []
      : [[name, mutated(item, rest, mutation)]]
  })
  return Array.isArray(value) ? entries.map(([, item]) => item) : Object.fromEntries(entries)
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  kind: fc.constantFrom('set', 'remove', 'add'),
  key: fc.constantFrom(...KEYS),
  to: odd,
})
const mutant = fc.constantFrom(image, index).chain((base) =>
  fc
    .array(fc.tuple(fc.constantFrom(...placesIn(base)), mutation), { minLength: 1, maxLength: 3 })
    .map((steps) =>
      steps.reduce<Json>((value, [path, step]) => {
        const there = placesIn(value).some((place) => place.join('\n') === path.join('\n'))
        return there ? mutated(value, path, step) : value
      }, base),
    ),
)

it('a valid manifest with wrong values, too many or too few keys', async () => {
  const before = taken.size
  await checkProperty(
    fc.tuple(mutant, mediaType),
    async ([value, type]) => {
      const inside = (value as { mediaType?: unknown } | null)?.mediaType
      const declared = type === undefined && typeof inside === 'string' ? undefined : type
      await put(Buffer.from(JSON.stringify(value)), declared)
      await expectReferrers()
    },
    1200,
  )
  // The property refuses some and accepts some.
  expect(taken.size - before).toBeGreaterThan(10)
  expect(taken.size - before).toBeLessThan(1190)
})

it('any JSON under any media type', async () => {
  await checkProperty(
    fc.tuple(fc.jsonValue({ maxDepth: 6, noUnicodeString: false }), mediaType),
    async ([value, type]) => {
      await put(Buffer.from(JSON.stringify(value)), type)
    },
    700,
  )
})

it('any Content-Type', async () => {
  await checkProperty(
    fc.tuple(anyHeader, fc.constantFrom('', 'application/', 'a/b; ')),
    async ([text, prefix]) => {
      await put(CHILD, prefix + text)
      expect(await put(CHILD, IMAGE_MANIFEST)).toBe(201)
    },
    300,
  )
})

it('a valid manifest with bytes that are cut off, inserted, changed or doubled', async () => {
  const text = JSON.stringify(image)
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc.constantFrom<readonly number[]>(
      ...[
        [0],
        [0xff],
        [0xc0, 0xaf],
        [0xed, 0xa0, 0x80],
        [0xef, 0xbb, 0xbf],
        [0xf4, 0x90, 0x80, 0x80],
      ],
      ...[[0x0a], [0x20], [0x7b], [0x7d], [0x22], [0x5c], [0x5c, 0x75, 0x64, 0x38, 0x30, 0x30]],
    ),
  )
  await checkProperty(
    fc.tuple(fc.nat({ max: text.length }), fc.nat({ max: 8 }), noise, mediaType),
    async ([at, removed, added, type]) => {
      const bytes = Buffer.from(text)
      const kept = bytes.subarray(at + removed)
      await put(Buffer.concat([bytes.subarray(0, at), Buffer.from(added), kept]), type)
    },
    700,
  )
  await expectReferrers()
})

it.each([
  ['nothing', ''],
  ['a byte order mark alone', '\ufeff'],
  ['a byte order mark', `\ufeff${JSON.stringify(image)}`],
  ['UTF-16', Buffer.from(JSON.stringify(image), 'utf16le').toString('latin1')],
  ['a repeated key', `{"mediaType":"a/b","mediaType":"${IMAGE_MANIFEST}","layers":[]}`],
  ['a huge number', JSON.stringify(image).replace('"size":100', `"size":1${'0'.repeat(400)}`)],
  ['a number with 100000 digits', `{"schemaVersion":${'9'.repeat(100_000)}}`],
  ['100000 nested lists', '['.repeat(100_000) + ']'.repeat(100_000)],
  ['100000 nested objects', `${'{"layers":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
  [
    'an annotation of 1 MiB',
    JSON.stringify({ ...(image as object), annotations: { a: 'x'.repeat(2 ** 20) } }),
  ],
  [
    '20000 annotations',
    JSON.stringify({
      ...(image as object),
      annotations: Object.fromEntries(Array.from({ length: 20_000 }, (_, key) => [`k${key}`, ''])),
    }),
  ],
  ['__proto__ as an annotation', JSON.stringify(image).replace('"org.example.key"', '"__proto__"')],
  ['__proto__ with layers', `{"__proto__":{"layers":[]},"mediaType":"${IMAGE_MANIFEST}"}`],
  [
    '10001 layers',
    JSON.stringify({ ...(image as object), layers: Array(10_001).fill(descriptor) }),
  ],
  ['a NUL in an annotation', JSON.stringify(image).replace('"value"', '"a\\u0000b"')],
  ['half a surrogate pair in an annotation', JSON.stringify(image).replace('"value"', '"\\ud800"')],
])('%s', async (_name, text) => {
  for (const type of [IMAGE_MANIFEST, IMAGE_INDEX, UNKNOWN_TYPE, undefined]) {
    await put(Buffer.from(text), type)
  }
  await expectReferrers()
})
