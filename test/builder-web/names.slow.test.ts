import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { changeSettings } from '../auth/upload-url-client.ts'
import { fixture, formOf, postImage, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { encodeExec, type Run, runOf, sha256 } from './exec.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_BUILDER_WEB: 'on',
    ROOKERY_BUILDER_WEB_JOBS: 'Website=web/www, hand=tools/hand',
    ROOKERY_BUILDER_WEB_LATEST: '',
  })
})
afterAll(() => registry.close())

type Ask = (path: string) => Promise<Response>
const anonymous: Ask = (path) => registry.anonymous(path)
const admin: Ask = (path) => registry.request(path)

/** Asks as a credential that may pull from these repositories. */
async function readerOf(...repositories: string[]): Promise<Ask> {
  const { name, secret } = await makeCredential(registry, { repositories, actions: ['pull'] })
  return (path) => registry.anonymous(path, { headers: { authorization: basic(name, secret) } })
}

/** Returns the kernel that a job's latest build has; the status when there is none. */
async function latest(ask: Ask, job: string): Promise<string | number> {
  const answer = await ask(`/job/${job}/build/latest/main-binary`)
  if (answer.status !== 307) return answer.status
  const main = await ask(answer.headers.get('location') ?? '')
  const file = await ask(main.headers.get('location') ?? '')
  return sha256(Buffer.from(await file.arrayBuffer()))
}
const kernelOf = (name: Run) => sha256(fixture(`builds/${name}/bin/hello-key.hvt`))
const GOOD = kernelOf('hello-key-1')
const OTHER = kernelOf('hello-key-4-same-input-different-output')

const push = (repository: string, build: Parameters<typeof pushBuild>[3] = 'hello-key-1') =>
  pushBuild(registry, repository, 'live', build)
const pushOther = (repository: string) =>
  push(repository, 'hello-key-4-same-input-different-output')
const setVisibility = (repository: string, visibility: 'private' | 'public') =>
  changeSettings(registry, repository, { visibility })

describe('the name of a job', () => {
  it('is the name of the repository, with ~ for each slash, and its last component', async () => {
    await push('plain')
    await push('team/deep/site-a')
    expect(await latest(anonymous, 'plain')).toBe(GOOD)
    expect(await latest(anonymous, 'team~deep~site-a')).toBe(GOOD)
    expect(await latest(anonymous, 'site-a')).toBe(GOOD)
    expect(await latest(anonymous, 'team%2Fdeep%2Fsite-a')).toBe(GOOD)
    expect(await latest(anonymous, 'deep')).toBe(404)
    expect(await latest(anonymous, 'UPPER')).toBe(404)
  })

  it('stays with the first repository when another gets the same last component', async () => {
    await push('web/site-b')
    await pushOther('evil/site-b')
    expect(await latest(anonymous, 'site-b')).toBe(GOOD)
    await pushOther('site-b')
    expect(await latest(anonymous, 'site-b')).toBe(GOOD)
    expect(await latest(anonymous, '~site-b')).toBe(OTHER)
    const { jobs } = (await (await anonymous('/all-builds')).json()) as { jobs: { name: string }[] }
    const names = jobs.map(({ name }) => name)
    for (const name of ['web~site-b', 'evil~site-b', '~site-b']) expect(names).toContain(name)
  })

  it('goes to nobody when its repository is deleted or made private', async () => {
    await push('web/site-c')
    await push('web/site-d')
    await pushOther('evil/site-c')
    await pushOther('evil/site-d')
    await setVisibility('web/site-c', 'private')
    expect(await latest(anonymous, 'site-c')).toBe(404)
    expect(await latest(await readerOf('web/**'), 'site-c')).toBe(GOOD)
    const deleted = await registry.request('/api/v1/repositories/web/site-d', { method: 'DELETE' })
    expect(deleted.status).toBeLessThan(300)
    expect(await latest(anonymous, 'site-d')).toBe(404)
    await push('web/site-d')
    expect(await latest(anonymous, 'site-d')).toBe(GOOD)
  })

  it('says nothing about a private repository', async () => {
    await setVisibility('web/secret-e', 'private')
    await setVisibility('secret-e', 'private')
    await push('web/secret-e')
    await push('secret-e')
    const run = runOf('hello-key-1')
    const paths = ['', '/failed', '/build/latest', `/build/${run.uuid}`, `/build/${run.uuid}/exec`]
    for (const path of paths) {
      const answers = ['secret-e', '~secret-e', 'web~secret-e', 'no-such-job'].map(async (job) => {
        const answer = await anonymous(`/job/${job}${path}`)
        return [answer.status, (await answer.text()).replace(/"request":"[^"]*"/, '')]
      })
      const [first, ...others] = await Promise.all(answers)
      expect(first?.[0], path).toBe(404)
      for (const other of others) expect(other, path).toEqual(first)
    }
    // A public repository of somebody else takes the name for the public, and not for those who may see the older one.
    expect(await latest(await readerOf('secret-e'), 'secret-e')).toBe(GOOD)
    await pushOther('evil/secret-e')
    expect(await latest(anonymous, 'secret-e')).toBe(OTHER)
    expect(await latest(await readerOf('secret-e'), 'secret-e')).toBe(GOOD)
    expect(await latest(admin, 'secret-e')).toBe(GOOD)
  })

  it('is the one that the setting gives, also for an upload', async () => {
    const upload = (exec: Parameters<typeof encodeExec>[0]) =>
      registry.request('/upload', { method: 'POST', body: new Uint8Array(encodeExec(exec)) })
    expect((await upload({ ...runOf('hello-key-1'), job: 'Website' })).status).toBe(201)
    expect(await latest(anonymous, 'Website')).toBe(GOOD)
    expect(await latest(anonymous, 'web~www')).toBe(GOOD)
    const found = await anonymous('/all-builds')
    expect(await found.text()).toContain('"name":"Website"')
    const unknown = await upload({ ...runOf('hello-key-1'), job: 'Upper' })
    expect(unknown.status).toBe(400)
    expect(await unknown.text()).toContain('NAME_INVALID')
  })

  it('of an upload is the same as for readers', async () => {
    await push('web/site-f')
    const { name, secret } = await makeCredential(registry, {
      repositories: ['web/**'],
      actions: ['pull', 'push'],
    })
    const answer = await registry.anonymous('/upload', {
      method: 'POST',
      headers: { authorization: basic(name, secret) },
      body: new Uint8Array(
        encodeExec({ ...runOf('hello-key-4-same-input-different-output'), job: 'site-f' }),
      ),
    })
    expect(answer.status).toBe(201)
    const builds = await registry.request('/api/v1/repositories/web/site-f/builds')
    expect(((await builds.json()) as { builds: unknown[] }).builds).toHaveLength(2)
    expect((await registry.request('/api/v1/repositories/site-f/builds')).status).toBe(404)
  })
})

describe('a hash', () => {
  const bytes = fixture('elf/mini-net.hvt')
  const location = async (ask: Ask, hash = sha256(bytes)) =>
    (await ask(`/hash?sha256=${hash}`)).headers.get('location')?.split('/')[2]
  const pushKernel = async (repository: string) => {
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(bytes)]), 'net.hvt')
    expect((await postImage(registry, repository, '', form)).status).toBe(201)
  }

  it('leads to the repository that had the kernel first, and never to a later copy', async () => {
    await pushKernel('own/net')
    await pushKernel('evil/net')
    expect(await location(anonymous)).toBe('own~net')
    expect(await location(await readerOf('evil/**'))).toBe('evil~net')
    await setVisibility('own/net', 'private')
    // Hosts that run the kernel of `own/net` would boot the next kernel of `evil/net`.
    expect(await location(anonymous)).toBe(undefined)
    expect(await location(await readerOf('own/**'))).toBe('own~net')
  })

  it('of any file of a build leads to it', async () => {
    const form = formOf('hello-key-1', { console: Buffer.from('only here') })
    expect((await postImage(registry, 'files/only', '?tag=v1', form)).status).toBe(201)
    expect(await location(anonymous, sha256(Buffer.from('only here')))).toBe('files~only')
  })
})
