import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fixture, pushBuild } from '../images/image-fixtures.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { call } from './described-request.ts'

let registry: TestRegistry
const images = (repository: string) => `/api/v1/repositories/${repository}/images`

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('the dependencies of images are as described', () => {
  it('all of them, and the paths to one package', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1', 'hello-key-1')
    const ofImage = `${images(repository)}/v1/dependencies`
    const { body } = await call(registry.anonymous, 'GET', ofImage)
    const { packages } = body as { packages: { ref: string }[] }
    const refs = new Map(packages.map((one) => [one.ref, one]))
    expect(body).toMatchObject({ roots: ['opam/hello-key'], omitted: 0 })
    expect(refs.get('vendored/lwt')).toMatchObject({ version: '6.1.2' })
    expect(refs.get('opam/hello-key')).toMatchObject({
      dependsOn: expect.arrayContaining(['vendored/lwt', 'vendored/mirage-runtime']),
    })
    const why = await call(registry.anonymous, 'GET', `${ofImage}?package=lwt`)
    expect(why.body).toMatchObject({ package: 'lwt', versions: ['6.1.2'], more: true })
    const { paths } = why.body as { paths: { name: string }[][] }
    const names = paths.map((path) => path.map(({ name }) => name))
    expect(names.slice(0, 2)).toEqual([
      ['hello-key', 'lwt'],
      ['hello-key', 'mirage-runtime', 'lwt'],
    ])
    const none = await call(registry.anonymous, 'GET', `${ofImage}?package=no-such-package`)
    expect(none.body).toEqual({
      ...{ package: 'no-such-package', versions: [], paths: [], more: false },
    })
  })
})

/** Reads again while the answer says that they are being computed. */
async function readSizes(path: string) {
  let answer = await call(registry.anonymous, 'GET', path)
  await waitUntil(async () => {
    if (answer.status === 503) answer = await call(registry.anonymous, 'GET', path)
    return answer.status !== 503
  })
  return answer
}

describe('the sizes of images are as described', () => {
  it('of the debug twin, and of a kernel without one', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1', 'hello-key-1')
    const { body } = await readSizes(`${images(repository)}/v1/sizes`)
    expect(body).toMatchObject({ file: { role: 'debug' }, problem: null })
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(fixture('elf/mini-net.hvt'))]), 'mini-net.hvt')
    await call(registry.request, 'POST', `${images(repository)}?tag=v2`, form)
    const kernel = await readSizes(`${images(repository)}/v2/sizes`)
    expect(kernel.body).toMatchObject({ file: { role: 'kernel' }, tree: { name: 'program' } })
  })
})
