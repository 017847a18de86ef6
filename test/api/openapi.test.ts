import { Validator } from '@seriousme/openapi-schema-validator'
import { describe, expect, it } from 'vitest'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { ERRORS } from '../../src/oci/errors.ts'
import { ROLES } from '../../src/unikernel/format.ts'
import { DEVICE_KINDS } from '../../src/unikernel/kernel/solo5-notes.ts'
import { TARGETS } from '../../src/unikernel/targets.ts'
import { ECOSYSTEMS } from '../../src/unikernel/versions/orders.ts'
import { expectAnswer, faultsOf } from './expect-answer.ts'
import {
  DOCUMENT,
  findOperation,
  nodeOf,
  OPERATIONS,
  type Place,
  partOf,
  partsOf,
  WHOLE,
} from './openapi-document.ts'

const rows = allRoutes({ auth: {} } as RouteDeps).filter(({ path }) =>
  /^\/(api\/v1|upload)\//.test(path),
)
const keyOf = ({ method, path }: { method: string; path: string }) =>
  `${method} ${path.replace(/[:*](\w+)/g, '{$1}')}`

describe('the description of the API', () => {
  it('is valid OpenAPI 3.1', async () => {
    const validator = new Validator()
    expect(await validator.validate({ ...DOCUMENT })).toEqual({ valid: true })
    expect(validator.version).toBe('3.1')
  })

  it('has every route of the API, and no others', () => {
    expect(OPERATIONS.map(keyOf).sort()).toEqual(rows.map(keyOf).sort())
  })

  it.each(OPERATIONS.map((operation) => [keyOf(operation), operation.place.node] as const))(
    '%s says who may use it as its row does',
    (key, { 'x-access': access, security }) => {
      const row = rows.find((one) => keyOf(one) === key)
      expect(access).toBe(row?.access)
      const somebody = [{ basic: [] }, { bearer: [] }]
      const wanted: Record<string, unknown> = {
        none: [],
        publicRead: [{}, ...somebody],
        pull: [{}, ...somebody],
      }
      const open = row?.needsLogin ? undefined : wanted[row?.access ?? '']
      expect(security ?? somebody).toEqual(open ?? somebody)
    },
  )

  it.each(OPERATIONS.map((operation) => [keyOf(operation), operation] as const))(
    '%s has the query parameters of its row',
    (key, { path, place }) => {
      const item = partOf(WHOLE, 'paths', path) ?? WHOLE
      const described = [...partsOf(item, 'parameters'), ...partsOf(place, 'parameters')]
        .filter(([, { node }]) => node.in === 'query')
        .map(([, { node }]) => [node.name, nodeOf(node.schema).type === 'array' ? 'many' : 'once'])
      const row = rows.find((one) => keyOf(one) === key)
      expect(Object.fromEntries(described)).toEqual(row?.query ?? {})
    },
  )

  it('requires a credential by default', () => {
    expect(DOCUMENT.security).toEqual([{ basic: [] }, { bearer: [] }])
  })

  it('describes every operation and every parameter', () => {
    const groups = Object.values(nodeOf(DOCUMENT.tags)).map((group) => nodeOf(group).name)
    for (const { path, place } of OPERATIONS) {
      const { operationId, summary, tags } = place.node
      expect(summary, path).toMatch(/^[A-Z].{9,70}[^.]$/)
      expect(operationId, path).toMatch(/^[a-z][A-Za-z]+$/)
      expect(groups, path).toEqual(expect.arrayContaining(Object.values(nodeOf(tags))))
      const item = partOf(WHOLE, 'paths', path)
      const parameters = [...partsOf(item ?? WHOLE, 'parameters'), ...partsOf(place, 'parameters')]
      const inPath = parameters.filter(([, { node }]) => node.in === 'path')
      expect(inPath.map(([, { node }]) => `{${node.name}}`)).toEqual(path.match(/\{\w+\}/g) ?? [])
      for (const [, { node }] of parameters) expect(node.description, path).toMatch(/\.$/)
    }
    const ids = OPERATIONS.map(({ place }) => place.node.operationId)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it.each([
    ['ErrorCode', Object.keys(ERRORS)],
    ['Target', TARGETS],
    ['Role', ROLES],
    ['Ecosystem', ECOSYSTEMS],
  ])('has the values of the code: %s', (name, words) => {
    expect(partOf(WHOLE, 'components', 'schemas', name)?.node.enum).toEqual([...words])
  })

  it('has the devices of the code', () => {
    const kind = partOf(WHOLE, 'components', 'schemas', 'Device', 'properties', 'kind')
    expect(kind?.node.enum).toEqual([...DEVICE_KINDS])
  })

  it('names every field of a response, and allows no others', () => {
    for (const { place } of OPERATIONS) {
      for (const [status, response] of partsOf(place, 'responses')) {
        const media = partOf(response, 'content', 'application/json')
        if (media === undefined) continue
        const fault = faultsOf(`${media.pointer}/schema`, { surprise: true })
        expect(fault, `${place.pointer} ${status}`).toMatch(/must NOT have additional properties/)
      }
    }
  })

  it('has valid examples', () => {
    const examples = [...examplesBelow(WHOLE)]
    expect(examples.length).toBeGreaterThan(40)
    for (const { pointer, value } of examples) {
      expect({ pointer, fault: faultsOf(pointer, value) }).toEqual({ pointer, fault: '' })
    }
  })

  it('uses all its definitions', () => {
    const text = JSON.stringify(DOCUMENT)
    for (const [kind, place] of partsOf(WHOLE, 'components')) {
      if (kind === 'securitySchemes') continue
      for (const name of Object.keys(place.node)) {
        expect(text).toContain(`"#/components/${kind}/${name}"`)
      }
    }
  })
})

describe('a request is found in the description', () => {
  it.each([
    ['GET', '/api/v1/repositories/a/images?n=1', '/api/v1/repositories/{repository}/images'],
    ['GET', '/api/v1/repositories/a/b/c/images', '/api/v1/repositories/{repository}/images'],
    ['GET', '/api/v1/repositories/a%2Fb/images', '/api/v1/repositories/{repository}/images'],
    ['PUT', 'http://127.0.0.1:5000/upload/rku_x/a%20b', '/upload/{secret}/{file}'],
    ['POST', '/api/v1/policies/test', '/api/v1/policies/test'],
    ['GET', '/api/v1/policies/test', '/api/v1/policies/{name}'],
    ['PATCH', '/api/v1/policies/test', undefined],
    ['GET', '/api/v1/policies/a/b', undefined],
    ['GET', '/v2/', undefined],
  ])('%s %s', (method, target, path) => {
    expect(findOperation(method, target)?.path).toBe(path)
  })
})

describe('a response that differs is detected:', () => {
  const SETTINGS = '/api/v1/repositories/a/settings'
  const right = {
    name: 'a',
    visibility: 'public',
    immutableTags: [],
    provenance: 'optional',
    createdAt: '2026-05-20T18:09:11.402Z',
  }
  const answer = (status: number, body: unknown, headers: Record<string, string> = {}) =>
    new Response(JSON.stringify(body), {
      status,
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'x-request-id': '5b0c7a3e-0d0f-4d0e-9a55-0f3b1c2d4e5f',
        ...headers,
      },
    })

  const error = (code: string, message = 'no') => ({ errors: [{ code, message }] })
  it.each([
    ['a row that nobody described', '/api/v1/nothing', answer(200, right), /nothing is not in/],
    ['a status', SETTINGS, answer(418, right), /418 is not in/],
    ['a field too many', SETTINGS, answer(200, { ...right, more: 1 }), /"more"/],
    ['a missing field', SETTINGS, answer(200, { ...right, name: undefined }), /"name"/],
    ['a wrong value', SETTINGS, answer(200, { ...right, createdAt: 'now' }), /date-time/],
    ['a header too many', SETTINGS, answer(200, right, { etag: '"x"' }), /does not name/],
    ['a missing header', SETTINGS, answer(401, error('UNAUTHORIZED')), /has no WWW-Auth/],
    ['a wrong header', SETTINGS, answer(429, {}, { 'retry-after': 'soon' }), /Retry-After/],
    ['no request id', SETTINGS, answer(200, right, { 'x-request-id': '' }), /X-Request-Id/],
    ['another type', SETTINGS, answer(200, right, { 'content-type': 'text/html' }), /text\/html/],
    ['a code of another status', SETTINGS, answer(404, error('DENIED')), /403/],
    ['an error of two lines', SETTINGS, answer(403, error('DENIED', 'a\nb')), /pattern/],
  ])('%s', async (_what, path, wrong, message) => {
    await expect(expectAnswer('GET', path, wrong)).rejects.toThrow(message)
  })

  it('and a correct one is accepted', async () => {
    expect(await expectAnswer('GET', SETTINGS, answer(200, right))).toEqual(right)
    const refusal = answer(
      429,
      { errors: [{ code: 'TOOMANYREQUESTS', message: 'slowly' }] },
      {
        'retry-after': '3',
      },
    )
    await expectAnswer('GET', SETTINGS, refusal)
  })
})

/** Returns each example with the pointer of its schema. */
function* examplesBelow(place: Place): Generator<{ pointer: string; value: unknown }> {
  const { node, pointer } = place
  if (Array.isArray(node.examples)) {
    for (const value of node.examples) yield { pointer, value }
  } else if (node.schema !== undefined) {
    const at = `${pointer}/schema`
    if (node.example !== undefined) yield { pointer: at, value: node.example }
    for (const [, example] of partsOf(place, 'examples')) {
      yield { pointer: at, value: example.node.value }
    }
  }
  for (const [name, value] of Object.entries(node)) {
    const isPart = typeof value === 'object' && value !== null
    if (!isPart || ['example', 'examples', 'value'].includes(name)) continue
    const part = name.replaceAll('~', '~0').replaceAll('/', '~1')
    yield* examplesBelow({ node: nodeOf(value), pointer: `${pointer}/${part}` })
  }
}
