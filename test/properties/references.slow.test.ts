import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import {
  anyEncoding,
  anyText,
  checkProperty,
  encoded,
  FuzzTarget,
  validEncoding,
} from './fuzz-target.ts'

// The expressions of the distribution spec ("Pulling manifests"), as written there.
const SPEC_NAME = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/
const SPEC_TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/
const NAME_LENGTH_MAX = 255
const EMPTY = Buffer.from('{}')
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    config: { mediaType: EMPTY_JSON, digest: digestOf(EMPTY), size: 2 },
    layers: [],
  }),
)

let target: FuzzTarget

beforeAll(async () => {
  target = await FuzzTarget.open()
  await target.push('known', EMPTY)
})

afterAll(() => target.close())

const component = fc
  .tuple(
    fc.stringMatching(/^[a-z0-9]{1,8}$/),
    fc.constantFrom('', '.', '_', '__', '-', '---', '..', '___', '._', '/'),
    fc.stringMatching(/^[a-zA-Z0-9]{0,8}$/),
  )
  .map((parts) => parts.join(''))
const nearlyName = fc
  .array(component, { minLength: 1, maxLength: 6 })
  .map((parts) => parts.join('/'))
const nearlyTag = fc.stringMatching(/^[a-zA-Z0-9._-]{1,130}$/)
const nearlyDigest = fc
  .tuple(
    fc.constantFrom('sha256:', 'sha512:', 'SHA256:', 'sha384:', 'md5:', 'sha256', ''),
    fc.constantFrom(63, 64, 65, 127, 128, 129),
    fc.constantFrom(...'0123456789abcdefAF g'),
  )
  .map(([algorithm, length, digit]) => algorithm + digit.repeat(length))

const name = fc.oneof(nearlyName, anyText)
const reference = fc.oneof(nearlyTag, nearlyDigest, anyText)

it('a repository name is accepted exactly when the spec accepts it', async () => {
  await checkProperty(
    fc.tuple(name, validEncoding),
    async ([text, write]) => {
      const { status, body } = await target.request({
        method: 'GET',
        target: `/v2/${write(text)}/referrers/${digestOf(EMPTY)}`,
      })
      // An encoded NUL, or text that is no UTF-8, is refused with its own message.
      const right = SPEC_NAME.test(text) && text.length <= NAME_LENGTH_MAX
      const code = status === 200 ? undefined : JSON.parse(body.toString()).errors[0].code
      if (right) expect(status).toBe(200)
      else if (status === 200) throw new Error(`${JSON.stringify(text)} was taken`)
      else
        expect(['NAME_INVALID', 'PATH_UNKNOWN', 'REQUEST_INVALID', 'UNSUPPORTED']).toContain(code)
    },
    1200,
  )
})

it('a push under any tag: 201 and served again when the spec has such tags, else 4xx', async () => {
  await checkProperty(
    fc.tuple(reference, validEncoding),
    async ([text, write]) => {
      const path = `/v2/known/manifests/${write(text)}`
      const put = await target.request({
        method: 'PUT',
        target: path,
        headers: { 'Content-Type': IMAGE_MANIFEST },
        body: MANIFEST,
      })
      if (!SPEC_TAG.test(text)) {
        expect(put.status).toBeGreaterThanOrEqual(text === digestOf(MANIFEST) ? 201 : 400)
        return
      }
      expect(put.status).toBe(201)
      const got = await target.request({ method: 'GET', target: path })
      expect(got.body.equals(MANIFEST)).toBe(true)
    },
    800,
  )
})

it('any reference and any digest, by every method', async () => {
  await checkProperty(
    fc.tuple(
      fc.constantFrom('GET', 'HEAD', 'PUT', 'DELETE', 'POST', 'PATCH', 'OPTIONS', 'TRACE', 'QUERY'),
      fc.constantFrom('manifests', 'blobs', 'referrers', 'blobs/uploads', 'tags', 'unknown'),
      fc.oneof(reference, nearlyDigest),
      name,
      anyEncoding,
    ),
    async ([method, kind, text, repository, write]) => {
      const path = repository.length % 2 === 0 ? 'known' : write(repository)
      const last = write(text)
      const body = ['PUT', 'POST', 'PATCH'].includes(method) ? { body: Buffer.from('x') } : {}
      const answer = await target.request({
        method,
        target: `/v2/${path}/${kind}/${last}`,
        headers: { 'Content-Type': IMAGE_MANIFEST },
        ...body,
      })
      // The part before a question mark that was not encoded may exist.
      const isWhole = !['?', '#'].some((character) => last.includes(character))
      const isAsked = path === 'known' && ['manifests', 'blobs'].includes(kind)
      if (isWhole && isAsked && method === 'HEAD') {
        if (!DIGEST.test(text) && !SPEC_TAG.test(text)) expect(answer.status).toBeGreaterThan(399)
      }
    },
    1500,
  )
})

it('any upload id, by every method', async () => {
  await checkProperty(
    fc.tuple(
      fc.constantFrom('GET', 'HEAD', 'PATCH', 'PUT', 'DELETE', 'POST'),
      fc.oneof(
        anyText,
        fc.uuid(),
        fc.uuid().map((id) => id.toUpperCase()),
      ),
      anyEncoding,
    ),
    async ([method, id, write]) => {
      const { status } = await target.request({
        method,
        target: `/v2/known/blobs/uploads/${write(id)}?digest=${encoded(digestOf(EMPTY))}`,
        ...(method === 'PATCH' || method === 'PUT' ? { body: EMPTY } : {}),
      })
      // Only the collection itself exists.
      if (/[^/]/.test(id) && !['?', '#', '.'].some((character) => id.includes(character))) {
        expect(status).toBeGreaterThanOrEqual(400)
      }
    },
    600,
  )
})
