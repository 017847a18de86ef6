import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { changeSettings } from '../auth/upload-url-client.ts'
import { fixture, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Run, sha256 } from './exec.ts'

const RUNS = ['hello-key-1', 'hello-key-2', 'hello-key-4-same-input-different-output'] as const
const kernelOf = (name: Run) => sha256(fixture(`builds/${name}/bin/hello-key.hvt`))

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_BUILDER_WEB: 'on',
    ROOKERY_BUILDER_WEB_JOBS: 'official=own/official',
  })
})
afterAll(() => registry.close())

type Ask = (path: string) => Promise<Response>
const anonymous: Ask = (path) => registry.anonymous(path)
async function readerOf(...repositories: string[]): Promise<Ask> {
  const { name, secret } = await makeCredential(registry, { repositories, actions: ['pull'] })
  return (path) => registry.anonymous(path, { headers: { authorization: basic(name, secret) } })
}
/** Returns the job to which a kernel leads. */
async function jobOf(run: Run, ask: Ask = anonymous): Promise<string | undefined> {
  const answer = await ask(`/hash?sha256=${kernelOf(run)}`)
  const path = answer.headers.get('location')
  if (path !== null) expect((await ask(path)).status).toBe(200)
  return path?.split('/')[2]
}
const push = (repository: string, run: Parameters<typeof pushBuild>[3]) =>
  pushBuild(registry, repository, 'live', run)
const setVisibility = (repository: string, visibility: 'private' | 'public') =>
  changeSettings(registry, repository, { visibility })

describe('the job to which a kernel leads', () => {
  const [FIRST, SECOND, THIRD] = RUNS

  it('is not that of a tenant who had it privately before its owner, also when it becomes public', async () => {
    await setVisibility('evil/early', 'private')
    await push('evil/early', FIRST)
    await push('own/site', FIRST)
    expect(await jobOf(FIRST)).toBe('own~site')
    await setVisibility('evil/early', 'public')
    expect(await jobOf(FIRST)).toBe('own~site')
    expect(await jobOf(FIRST, await readerOf('own/**'))).toBe('own~site')
    await setVisibility('evil/early', 'private')
    expect(await jobOf(FIRST)).toBe('own~site')
  })

  it('stays when its owner deletes the image, although others have it', async () => {
    const digest = await push('own/deleted', SECOND)
    await push('evil/deleted', SECOND)
    expect(await jobOf(SECOND)).toBe('own~deleted')
    const answer = await registry.request(`/v2/own/deleted/manifests/${digest}`, {
      method: 'DELETE',
    })
    expect(answer.status).toBe(202)
    expect(await jobOf(SECOND)).toBe('own~deleted')
    expect(await jobOf(SECOND, await readerOf('own/**'))).toBe('own~deleted')
  })

  it('goes to nobody when its repository is deleted or private, except for those with rights', async () => {
    await registry.request('/api/v1/repositories/own/deleted', { method: 'DELETE' })
    expect(await jobOf(SECOND)).toBe(undefined)
    expect(await jobOf(SECOND, await readerOf('evil/**'))).toBe('evil~deleted')
    await push('own/deleted', FIRST)
    expect(await jobOf(SECOND)).toBe(undefined)
    await push('own/deleted', SECOND)
    expect(await jobOf(SECOND)).toBe('own~deleted')
    await setVisibility('own/site', 'private')
    expect(await jobOf(FIRST)).toBe(undefined)
    expect(await jobOf(FIRST, await readerOf('own/**'))).toBe('own~site')
    await setVisibility('own/site', 'public')
    expect(await jobOf(FIRST)).toBe('own~site')
  })

  it('is the one that the operator names, although a tenant had the kernel before', async () => {
    await push('evil/reproduced', THIRD)
    expect(await jobOf(THIRD)).toBe('evil~reproduced')
    // The push of others changes no answer; the setting of the operator does.
    await push('own/other', THIRD)
    expect(await jobOf(THIRD)).toBe('evil~reproduced')
    await push('own/official', THIRD)
    expect(await jobOf(THIRD)).toBe('official')
    expect(await jobOf(THIRD, await readerOf('own/other'))).toBe('own~other')
    await setVisibility('own/official', 'private')
    expect(await jobOf(THIRD)).toBe('evil~reproduced')
  })
})
