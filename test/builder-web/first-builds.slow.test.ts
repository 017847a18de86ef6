import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { changeSettings } from '../auth/upload-url-client.ts'
import { fixture, postImage, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { encodeExec, type Run, runOf, sha256 } from './exec.ts'

let registry: TestRegistry
/** Another process on the same database and store. */
let replica: RunningServer

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
  replica = await startServer(parseConfig(registry.settings), createLog('silent'), () => {})
})
afterAll(async () => {
  await replica?.close()
  await registry.close()
})

const OTHER = 'hello-key-4-same-input-different-output'
const kernelOf = (name: Run) => sha256(fixture(`builds/${name}/bin/hello-key.hvt`))
const push = (repository: string, build: Parameters<typeof pushBuild>[3] = 'hello-key-1') =>
  pushBuild(registry, repository, 'live', build)
const upload = (body: Uint8Array | ReadableStream, authorization?: string) =>
  (authorization === undefined ? registry.request : registry.anonymous)('/upload', {
    method: 'POST',
    body,
    ...(authorization === undefined ? {} : { headers: { authorization } }),
    duplex: 'half',
  } as RequestInit)
const exec = (job: string, name: Run = 'hello-key-1') => encodeExec({ ...runOf(name), job })

/** Returns the repository that a job means, as its latest build names it; the status when there is none. */
async function kernelAt(job: string): Promise<string | number> {
  const latest = await registry.anonymous(`/job/${job}/build/latest/main-binary`)
  if (latest.status !== 307) return latest.status
  const main = await registry.anonymous(latest.headers.get('location') ?? '')
  const file = await registry.anonymous(main.headers.get('location') ?? '')
  return sha256(Buffer.from(await file.arrayBuffer()))
}
const GOOD = kernelOf('hello-key-1')
const BAD = kernelOf(OTHER)

async function traces(component: string) {
  const names = await sql(registry, 'select name from job_names where name = $1', [component])
  const repositories = await sql(
    registry,
    `select name from repositories where substring(name from '[^/]*$') = $1`,
    [component],
  )
  return { names, repositories }
}
const NONE = { names: [], repositories: [] }

const setVisibility = (repository: string, visibility: 'private' | 'public') =>
  changeSettings(registry, repository, { visibility })
const remove = async (repository: string) =>
  expect(
    (await registry.request(`/api/v1/repositories/${repository}`, { method: 'DELETE' })).status,
  ).toBeLessThan(300)

describe('a refused upload', () => {
  it('leaves no repository and no name', async () => {
    const whole = exec('refused')
    const cut = (bytes: Buffer, fails: boolean) =>
      new ReadableStream({
        start(controller) {
          controller.enqueue(new Uint8Array(bytes))
          if (fails) controller.error(new Error('the builder is gone'))
          else controller.close()
        },
      })
    expect((await upload(new Uint8Array(Buffer.from('no DER')))).status).toBe(400)
    for (const end of [40, whole.length / 2, whole.length - 1]) {
      expect((await upload(cut(whole.subarray(0, end), false))).status).toBe(400)
      expect(await traces('refused')).toEqual(NONE)
    }
    await expect(upload(cut(whole.subarray(0, whole.length / 2), true))).rejects.toThrow()
    await expect.poll(() => traces('refused'), { timeout: 10_000 }).toEqual(NONE)
  })

  it('by a credential that may not push leaves nothing', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['others/**'],
      actions: ['push'],
    })
    const answer = await upload(new Uint8Array(exec('forbidden')), basic(name, secret))
    expect(answer.status).toBe(403)
    expect(await traces('forbidden')).toEqual(NONE)
  })

  it('of a tag beyond the rights of its credential leaves nothing', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['**'],
      actions: ['push'],
      tags: ['other'],
    })
    const answer = await upload(new Uint8Array(exec('untagged')), basic(name, secret))
    expect(answer.status).toBe(403)
    expect(await traces('untagged')).toEqual(NONE)
  })

  it('of an image or a blob leaves nothing', async () => {
    const form = new FormData()
    form.append('kernel', new Blob(['no kernel']), 'kernel.hvt')
    form.append('console', new Blob(['text']), 'console')
    expect((await postImage(registry, 'evil/posted', '?tag=v1', form)).status).toBe(400)
    const wrong = await registry.request(
      `/v2/evil/posted/blobs/uploads/?digest=sha256:${'0'.repeat(64)}`,
      { method: 'POST', body: 'other bytes' },
    )
    expect(wrong.status).toBe(400)
    expect(await traces('posted')).toEqual(NONE)
  })

  it('takes nothing from a push to the same new repository', async () => {
    const form = () => {
      const broken = new FormData()
      broken.append('console', new Blob(['text']), 'console')
      return broken
    }
    const rounds = [1, 2, 3, 4].map(async (round) => {
      const refused = Array.from({ length: 4 }, () =>
        postImage(registry, `own/race-${round}`, '?tag=v2', form()),
      )
      await push(`own/race-${round}`)
      for (const answer of await Promise.all(refused)) expect(answer.status).toBe(400)
      expect(await kernelAt(`own~race-${round}`)).toBe(GOOD)
    })
    await Promise.all(rounds)
  }, 60_000)
})

describe('the name of a job', () => {
  it('is bound by the first build, and not by an upload that another began before', async () => {
    for (const repository of ['evil/bound', 'bound']) {
      const begun = await registry.request(`/v2/${repository}/blobs/uploads/`, { method: 'POST' })
      expect(begun.status).toBe(202)
    }
    expect((await traces('bound')).names).toEqual([])
    await push('web/bound')
    expect(await kernelAt('bound')).toBe(GOOD)
    // Also a repository that was there before, with exactly the name.
    await push('bound', OTHER)
    await push('evil/bound', OTHER)
    expect(await kernelAt('bound')).toBe(GOOD)
    expect(await kernelAt('~bound')).toBe(BAD)
  })

  it('is bound once when two replicas take the first builds at once', async () => {
    const atReplica = (path: string, init?: RequestInit) => {
      const headers = { authorization: basic('admin', registry.password) }
      return fetch(new URL(path, replica.url), { ...init, headers })
    }
    const pushes = Array.from({ length: 8 }, (_, n) => {
      const server = n % 2 === 0 ? registry : { ...registry, request: atReplica }
      return pushBuild(server, `team-${n}/once`, 'live', 'hello-key-1')
    })
    await Promise.all(pushes)
    const bound = await sql<{ repository: string }>(
      registry,
      `select repository from job_names where name = 'once'`,
    )
    expect(bound).toHaveLength(1)
    const jobs = await registry.anonymous('/all-builds')
    expect(await jobs.text()).toContain(`"name":"${bound[0]?.repository.replace('/', '~')}"`)
  }, 60_000)

  it('is bound by every way that makes a build', async () => {
    await push('ways/by-form')
    expect(await kernelAt('by-form')).toBe(GOOD)
    expect((await upload(new Uint8Array(exec('by-exec')))).status).toBe(201)
    expect(await kernelAt('by-exec')).toBe(GOOD)
    const failed = new FormData()
    failed.append('console', new Blob(['failed']), 'console')
    const report = await registry.request('/api/v1/repositories/ways/by-report/builds', {
      method: 'POST',
      body: failed,
    })
    expect(report.status).toBe(201)
    expect((await traces('by-report')).names).toHaveLength(1)
    await setVisibility('ways/published', 'private')
    await push('ways/published')
    expect((await traces('published')).names).toEqual([])
    await setVisibility('ways/published', 'public')
    expect(await kernelAt('published')).toBe(GOOD)
  })

  it('does not go to a private repository with older builds that becomes public', async () => {
    await setVisibility('flip', 'private')
    await push('flip', OTHER)
    await push('web/flip')
    expect(await kernelAt('flip')).toBe(GOOD)
    await setVisibility('flip', 'public')
    expect(await kernelAt('flip')).toBe(GOOD)
    expect(await kernelAt('~flip')).toBe(BAD)
    const jobs = (await (await registry.anonymous('/all-builds')).json()) as {
      jobs: { name: string }[]
    }
    expect(jobs.jobs.map(({ name }) => name)).toContain('~flip')
    expect(jobs.jobs.map(({ name }) => name)).not.toContain('flip')
  })

  it('is free after a mistake that nobody followed', async () => {
    await push('web/mistake')
    await remove('web/mistake')
    await push('web2/mistake')
    expect(await kernelAt('mistake')).toBe(GOOD)
  })

  it('stays when somebody followed it', async () => {
    await push('web/followed')
    expect(await kernelAt('followed')).toBe(GOOD)
    await remove('web/followed')
    await push('evil/followed', OTHER)
    expect(await kernelAt('followed')).toBe(404)
    await push('web/followed')
    expect(await kernelAt('followed')).toBe(GOOD)
  })

  it('stays when all images of its repository are deleted', async () => {
    const digest = await push('web/emptied')
    const gone = await registry.request(`/v2/web/emptied/manifests/${digest}`, { method: 'DELETE' })
    expect(gone.status).toBe(202)
    await push('evil/emptied', OTHER)
    expect(await kernelAt('emptied')).toBe(404)
  })

  it('cannot be taken by another spelling', async () => {
    await push('web/spelled')
    await push('evil/spelled-2', OTHER)
    await push('evil/spelled/x', OTHER)
    for (const job of ['Spelled', 'SPELLED', 'spelled%00', 'spelle', 'spelled.', '~Spelled']) {
      expect([job, await kernelAt(job)]).toEqual([job, 404])
    }
    for (const job of ['spelled', 'web~spelled', 'web%2Fspelled']) {
      expect([job, await kernelAt(job)]).toEqual([job, GOOD])
    }
  })

  it('of a builder whose job another tenant has is refused', async () => {
    await push('web/tenant')
    const { name, secret } = await makeCredential(registry, {
      repositories: ['tenant', 'evil/**'],
      actions: ['push', 'pull'],
    })
    const answer = await upload(new Uint8Array(exec('tenant', OTHER)), basic(name, secret))
    expect(answer.status).toBe(403)
    expect(await kernelAt('tenant')).toBe(GOOD)
  })
})
