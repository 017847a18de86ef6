import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { type BuilderWebRouteDeps, builderWebRoutes } from '../../src/http/builder-web/routes.ts'
import { ROOT } from '../house/tree.ts'
import { formOf, postImage } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { encodeExec, runOf, sha256 } from './exec.ts'

type Node = { readonly [name: string]: Node }

const DOCUMENT = parse(readFileSync(join(ROOT, 'spec/builder-web.yaml'), 'utf8')) as Node
const ROWS = builderWebRoutes({ builderWeb: {} } as BuilderWebRouteDeps)
const ajv = new Ajv2020({ strict: false, allErrors: true })
formats.default(ajv)
ajv.addSchema(DOCUMENT, 'builder-web')

const keyOf = ({ method, path }: { method: string; path: string }) =>
  `${method} ${path.replace(/[:*](\w+)/g, '{$1}')}`
const follow = (node: Node | undefined): Node | undefined => {
  const reference = node?.$ref as unknown as string | undefined
  if (reference === undefined) return node
  return reference
    .slice(2)
    .split('/')
    .reduce<Node | undefined>((at, name) => at?.[name], DOCUMENT)
}
const OPERATIONS = Object.entries(DOCUMENT.paths ?? {}).flatMap(([path, item]) =>
  Object.entries(item)
    .filter(([method]) => method === 'get' || method === 'post')
    .map(([method, operation]) => ({ path, method: method.toUpperCase(), item, operation })),
)
const RUN = { ...runOf('hello-key-1'), job: 'described' }
const BUILD = `/job/described/build/${RUN.uuid}`
const OTHER = { ...runOf('hello-key-2'), job: 'described' }
const FAILED = { ...runOf('hello-key-5-failed'), job: 'described' }
const NOBODY = '00000000-0000-4000-8000-000000000000'
const seen = new Set<string>()

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
  for (const run of [RUN, OTHER, FAILED]) await ask('POST', '/upload', 201, { body: run })
  expect((await postImage(registry, 'plain', '?tag=v1', formOf('hello-key-1'))).status).toBe(201)
})
afterAll(() => registry.close())

type Sent = { body?: typeof RUN | string; headers?: Record<string, string>; as?: 'nobody' }

/** Sends a request, and checks the answer against the document. */
async function ask(method: string, path: string, status: number, sent: Sent = {}): Promise<void> {
  const { body, headers = {} } = sent
  const bytes = typeof body === 'object' ? new Uint8Array(encodeExec(body)) : body
  const request = sent.as === 'nobody' ? registry.anonymous : registry.request
  const answer = await request(path, {
    method,
    headers,
    ...(bytes === undefined ? {} : { body: bytes }),
  })
  expect({ path, status: answer.status }).toEqual({ path, status })
  const [pathname = ''] = path.split('?')
  const matching = OPERATIONS.filter(
    (one) =>
      one.method === method &&
      new RegExp(
        `^${one.path
          .replaceAll('.', '\\.')
          .replace('{path}', '.+')
          .replace(/\{\w+\}/g, '[^/]+')}$`,
      ).test(pathname),
  )
  // `latest` is a word of the path, and no id.
  const found = matching.toSorted((a, b) => a.path.split('{').length - b.path.split('{').length)[0]
  const described = follow(found?.operation.responses?.[String(status)])
  expect(described, `${method} ${path} ${status}`).toBeDefined()
  seen.add(`${method} ${found?.path} ${status}`)
  for (const name of Object.keys(described?.headers ?? {})) {
    expect(answer.headers.get(name), name).not.toBeNull()
  }
  const schema = described?.content?.['application/json']?.schema
  const text = await answer.text()
  if (schema === undefined) return
  const validate = ajv.compile(
    JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"builder-web#/')),
  )
  validate(JSON.parse(text))
  expect(validate.errors, `${path}: ${text.slice(0, 400)}`).toBeNull()
}

describe('the description of the paths of builder-web', () => {
  it('is valid OpenAPI 3.1, and has every route and no others', async () => {
    expect(await new Validator().validate({ ...DOCUMENT } as never)).toEqual({ valid: true })
    expect(OPERATIONS.map(keyOf).sort()).toEqual(ROWS.map(keyOf).sort())
  })

  it.each(OPERATIONS.map((one) => [keyOf(one), one] as const))(
    '%s has the access and the parameters of its row',
    (key, { item, operation }) => {
      const row = ROWS.find((one) => keyOf(one) === key)
      expect(operation['x-access']).toBe(row?.access)
      const parameters = [item.parameters, operation.parameters]
        .flatMap((list) => Object.values(list ?? {}))
        .map((one) => follow(one) as unknown as { in: string; name: string })
      const query = parameters.filter((one) => one.in === 'query').map(({ name }) => [name, 'once'])
      expect(Object.fromEntries(query)).toEqual(row?.query ?? {})
      const inPath = parameters.filter((one) => one.in === 'path').map(({ name }) => `{${name}}`)
      expect(inPath).toEqual(key.match(/\{\w+\}/g) ?? [])
    },
  )

  it('is what the server answers', async () => {
    const get = (path: string, status: number, sent?: Sent) => ask('GET', path, status, sent)
    const post = (path: string, status: number, sent?: Sent) => ask('POST', path, status, sent)
    const binary = '/job/by-hand/platform/debian-12/upload'
    await post('/upload', 400, { body: 'no exec' })
    await post('/upload', 401, { body: RUN, as: 'nobody' })
    await post('/upload', 409, { body: RUN })
    await post(binary, 201, { body: 'a package' })
    await post(`${binary}?binary_name=a/b`, 400, { body: 'x' })
    await post(binary, 401, { body: 'x', as: 'nobody' })
    const [, kernel] = RUN.outputs.at(-1) ?? []
    await get(`/hash?sha256=${sha256(kernel ?? Buffer.alloc(0))}`, 307)
    await get('/hash?sha256=1', 400)
    await get(`/hash?sha256=${'0'.repeat(64)}`, 404)
    for (const path of ['/build/latest', '/build/latest/f/opam-switch']) {
      await get(`/job/described${path}?platform=debian-12`, 307)
      await get(`/job/described${path}?platform=a%20b`, 400)
      await get(`/job/nothing${path}`, 404)
    }
    await get(BUILD, 200)
    await get(`/job/described/build/${FAILED.uuid}`, 200)
    await get(`/job/described/build/${NOBODY}`, 404)
    const file = `${BUILD}/f/bin/hello-key.hvt`
    await get(file, 200)
    await get(file, 206, { headers: { range: 'bytes=0-3' } })
    await get(file, 416, { headers: { range: 'bytes=99999999-' } })
    const etag = Buffer.from(sha256(kernel ?? Buffer.alloc(0)), 'hex').toString('base64')
    await get(file, 304, { headers: { 'if-none-match': etag } })
    await get(`${BUILD}/f/nothing`, 404)
    await get(`${BUILD}/main-binary`, 307)
    await get(`/job/described/build/${FAILED.uuid}/main-binary`, 404)
    for (const name of ['console', 'script', 'exec']) {
      await get(`${BUILD}/${name}`, 200)
      await get(`/job/described/build/${NOBODY}/${name}`, 404)
    }
    await get(`/compare/${RUN.uuid}/${OTHER.uuid}`, 200)
    await get(`/compare/${RUN.uuid}/${NOBODY}`, 404)
    await get(`/compare/${RUN.uuid}/${FAILED.uuid}`, 404)
    for (const path of [
      '/',
      '/all-builds',
      '/robots.txt',
      '/failed-builds?platform=debian-12&start=0&count=5',
    ]) {
      await get(path, 200)
    }
    await get('/failed-builds?count=many', 400)
    for (const path of ['', '/failed']) {
      await get(`/job/described${path}?platform=debian-12`, 200)
      await get(`/job/described${path}?other=1`, 400)
      await get(`/job/nothing${path}`, 404)
    }
  })

  it('has no answer that no request got', () => {
    const described = OPERATIONS.flatMap(({ method, path, operation }) =>
      Object.keys(operation.responses ?? {}).map((status) => `${method} ${path} ${status}`),
    )
    // The test of uploads provokes these with other credentials.
    const elsewhere = ['POST /upload 403', 'POST /job/{job}/platform/{platform}/upload 403']
    expect(described.filter((one) => !seen.has(one)).sort()).toEqual(elsewhere.sort())
  })
})

it('a build of a plain push has the same paths, and no exec', async () => {
  const latest = await registry.anonymous('/job/plain/build/latest')
  const build = latest.headers.get('location') ?? ''
  for (const path of ['', '/f/bin/hello-key.hvt', '/f/opam-switch', '/f/hello-key.hvt.debug']) {
    expect((await registry.anonymous(`${build}${path}`)).status, path).toBe(200)
  }
  const main = await registry.anonymous(`${build}/main-binary`)
  expect(main.headers.get('location')).toBe(`${build}/f/bin/hello-key.hvt`)
  const exec = await registry.anonymous(`${build}/exec`)
  expect([exec.status, await exec.text()]).toEqual([404, expect.stringContaining('did not come')])
})

it('the ETag of a file is its SHA-256 in Base64, without quotes', async () => {
  const [, kernel] = RUN.outputs.at(-1) ?? []
  const answer = await registry.anonymous(`${BUILD}/f/bin/hello-key.hvt`)
  expect(answer.headers.get('etag')).toBe(
    Buffer.from(sha256(kernel ?? Buffer.alloc(0)), 'hex').toString('base64'),
  )
  const types = { 'opam-switch': /^text\/plain/, 'bin/hello-key.hvt': /^application\/octet-stream/ }
  for (const [path, type] of Object.entries(types)) {
    const file = await registry.anonymous(`${BUILD}/f/${path}`, { method: 'HEAD' })
    expect(file.headers.get('content-type')).toMatch(type)
  }
})
