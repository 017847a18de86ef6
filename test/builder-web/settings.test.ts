import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseBuilderWeb } from '../../src/config/builder-web.ts'
import { fixture } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { encodeExec, type Run, runOf, sha256 } from './exec.ts'

const ON = { isOn: true, jobs: '', latest: undefined }

it.each([
  [{ ...ON, isOn: false, jobs: 'a=b' }, /ROOKERY_BUILDER_WEB_JOBS needs ROOKERY_BUILDER_WEB=on/],
  [{ ...ON, isOn: false, latest: 'live' }, /_LATEST needs ROOKERY_BUILDER_WEB=on/],
  [{ ...ON, latest: 'a/b' }, /must be a tag, not "a\/b"/],
  [{ ...ON, jobs: 'site' }, /"site" must be like site=web\/site/],
  [{ ...ON, jobs: '=web/site' }, /must be like/],
  [{ ...ON, jobs: 'a~b=web/site' }, /must be like/],
  [{ ...ON, jobs: 'site=Web' }, /"Web" is no repository/],
  [{ ...ON, jobs: 'a=x,a=y' }, /the job a is there twice/],
  [{ ...ON, jobs: 'a=x,b=x' }, /x has two jobs/],
])('%j stops the start', (texts, reason) => {
  expect(() => parseBuilderWeb(texts)).toThrow(reason)
})

it('names of jobs may have capitals', () => {
  const { jobs } = parseBuilderWeb({ ...ON, jobs: ' Site=web/site , ' }) ?? {}
  expect([...(jobs ?? [])]).toEqual([['Site', 'web/site']])
})

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_BUILDER_WEB: 'on',
    ROOKERY_BUILDER_WEB_LATEST: 'live',
  })
})
afterAll(() => registry.close())

it('with a tag as the latest, hosts get the kernel of the tag and no newer one', async () => {
  const upload = (name: Run) =>
    registry.request('/upload', {
      method: 'POST',
      body: new Uint8Array(encodeExec(runOf(name))),
    })
  const latest = async () =>
    (await registry.anonymous('/job/hello-key/build/latest')).headers.get('location')
  await upload('hello-key-1')
  expect(await latest()).toBeNull()
  const { digest } = (await (
    await registry.request('/api/v1/repositories/hello-key/images/debian-12')
  ).json()) as { digest: string }
  const manifest = await registry.request(`/v2/hello-key/manifests/${digest}`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  })
  const promoted = await registry.request('/v2/hello-key/manifests/live', {
    method: 'PUT',
    headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
    body: await manifest.text(),
  })
  expect(promoted.status).toBe(201)
  await upload('hello-key-4-same-input-different-output')
  const first = runOf('hello-key-1').uuid
  expect(await latest()).toBe(`/job/hello-key/build/${first}`)
  // A host that runs the kernel of the tag is up to date, also when it was built once more.
  await upload('hello-key-2')
  const kernel = sha256(fixture('builds/hello-key-1/bin/hello-key.hvt'))
  const hash = await registry.anonymous(`/hash?sha256=${kernel}`)
  expect(await latest()).toBe(hash.headers.get('location'))
})
