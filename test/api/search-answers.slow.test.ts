import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BUILDS, expectedOf, fixture, pushBuild } from '../images/image-fixtures.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll, type RequestFunction } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'

let registry: TestRegistry
let admin: RequestFunction
let anybody: RequestFunction

beforeAll(async () => {
  registry = await startRegistry()
  admin = registry.request
  anybody = registry.anonymous
})
afterAll(() => registry.close())

const images = (repository: string) => `/api/v1/repositories/${repository}/images`

describe('images are compared as described', () => {
  it('when two are compared', async () => {
    const repository = newRepository()
    for (const build of BUILDS) await pushBuild(registry, repository, build, build)
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(fixture('elf/mini-blk-net2.spt'))]), 'mini.spt')
    await call(admin, 'POST', `${images(repository)}?tag=alone`, form)
    const tags = [...BUILDS, 'alone']
    for (const from of tags) {
      for (const to of tags) {
        const compared = await call(anybody, 'GET', `${images(repository)}/${from}/compare/${to}`)
        expect(compared).toMatchObject({ status: 200, body: { from: { tags: [from] } } })
      }
      await call(anybody, 'GET', `${images(repository)}/${from}/compare?with=latest`)
    }
  })
})

describe('images are found as described', () => {
  it('by kernel, and by inputs', async () => {
    const repository = newRepository()
    for (const build of BUILDS) await pushBuild(registry, repository, build, build)
    const { main_binary_sha256: hex, input_id: inputId } = expectedOf('hello-key-2')
    const found = await listAll(anybody, `/api/v1/kernels/sha256:${hex}?n=1`, 'images')
    expect(found.length).toBeGreaterThan(1)
    const everywhere = await listAll(anybody, '/api/v1/images?n=1&target=hvt', 'images')
    expect(everywhere.length).toBeGreaterThan(1)
    const nobody = await call(anybody, 'GET', `/api/v1/kernels/sha256:${'0'.repeat(64)}`)
    expect(nobody.body.images).toEqual([])
    const made = await call(anybody, 'GET', `/api/v1/inputs/${inputId}`)
    expect(made.body).toMatchObject({ outputs: [{}, {}], otherInputs: expect.anything() })
    await call(anybody, 'GET', `/api/v1/inputs/${'0'.repeat(64)}`)
  })

  it.each([
    ['opam', 'mirage', '>= 4 & < 5'],
    ['deb', 'bash', undefined],
    ['freebsd', 'bash', undefined],
    ['opam', 'a package that is not there', '= 1'],
  ])('by the package %s %s %s', async (ecosystem, name, version) => {
    for (const build of BUILDS) await pushBuild(registry, newRepository(), 'v1', build)
    const path = `/api/v1/packages/${ecosystem}/${encodeURIComponent(name)}`
    const query = version === undefined ? '' : `&version=${encodeURIComponent(version)}`
    const found = await listAll(admin, `${path}?n=2${query}`, 'images')
    expect(found.length > 0).toBe(!name.includes(' '))
  })
})

describe('images of a source are found as described', () => {
  it('by a source repository, and by a checksum', async () => {
    await pushBuild(registry, newRepository(), 'v1', 'hello-key-2')
    const from = encodeURIComponent('https://github.com/ocaml/dune#3.24.2')
    const found = await listAll(anybody, `/api/v1/sources?n=4&from=${from}`, 'images')
    expect(found.length).toBeGreaterThan(1)
    const none = await call(anybody, 'GET', `/api/v1/sources?checksum=md5%3D${'0'.repeat(32)}`)
    expect(none.body).toMatchObject({ from: null, images: [] })
  })
})

it('the tests saw every described success of searches', () => {
  const described = OPERATIONS.filter(({ path }) =>
    /\/(?:kernels|inputs|packages|sources|compare)(?:\/|$)|^\/api\/v1\/images$/.test(path),
  ).flatMap(({ method, path, place }) =>
    partsOf(place, 'responses')
      .filter(([status]) => /^[23]/.test(status))
      .map(([status]) => `${method} ${path} ${status}`),
  )
  expect(described.length).toBeGreaterThan(4)
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})
