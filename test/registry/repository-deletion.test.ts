import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sweepAll } from '../../src/registry/maintenance/gc-loop.ts'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import { openSweeper, type Sweeper } from '../garbage/sweeper.ts'
import { newRepository, pushBlob, pushImage, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let sweeper: Sweeper
/** The cursor before all events. */
let start: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  sweeper = await openSweeper(registry)
  const answer = await registry.anonymous('/api/v1/events')
  start = ((await answer.json()) as { cursor: string }).cursor
})
afterAll(async () => {
  await sweeper.close()
  await registry.close()
})

const api = (repository: string) => `/api/v1/repositories/${repository}`
const remove = (repository: string) => registry.request(api(repository), { method: 'DELETE' })
const status = async (path: string, init?: RequestInit) =>
  (await registry.request(path, init)).status

async function changeSettings(repository: string, change: object): Promise<void> {
  const sent = await registry.request(`${api(repository)}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(change),
  })
  expect(sent.status).toBe(200)
}

async function catalog(): Promise<string[]> {
  const answer = await registry.request('/v2/_catalog')
  return ((await answer.json()) as { repositories: string[] }).repositories
}

type FeedEvent = { type: string; data: { repository: string; actor?: string } }

async function feedOf(repository: string, authorization?: string): Promise<FeedEvent[]> {
  const path = `/api/v1/events?repository=${repository}&after=${start}`
  const answer = await (authorization === undefined
    ? registry.anonymous(path)
    : registry.anonymous(path, { headers: { authorization } }))
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { events: FeedEvent[] }).events
}

const asAdmin = () => basic('admin', registry.password)

describe('a repository', () => {
  it('whose last manifest is deleted leaves the catalog, also after a sweep', async () => {
    const [plain, configured] = [newRepository(), newRepository()]
    await changeSettings(configured, { provenance: 'optional' })
    for (const repository of [plain, configured]) {
      const { digest } = await pushImage(registry, repository, 'v1')
      expect(await catalog()).toContain(repository)
      await sweeper.garbage(3600).sweep()
      const manifest = `/v2/${repository}/manifests/${digest}`
      expect(await status(manifest, { method: 'DELETE' })).toBe(202)
    }
    expect(await catalog()).not.toContain(plain)
    expect(await catalog()).toContain(configured)
  })

  it('that only a refused push or an upload began is in no catalog', async () => {
    const [refused, begun] = [newRepository(), newRepository()]
    expect((await putManifest(registry, refused, 'v1', '{}')).status).toBe(400)
    await pushBlob(registry, begun)
    expect(await catalog()).not.toContain(refused)
    expect(await catalog()).not.toContain(begun)
  })
})

describe('the deletion of a repository', () => {
  it('ends its tags, manifests, blobs, settings, history and uploads at once', async () => {
    const repository = newRepository()
    await changeSettings(repository, { visibility: 'private' })
    const { digest, body } = await pushImage(registry, repository, 'v1')
    const blob = partsOf(body).layers[0]?.digest
    const started = await registry.request(`/v2/${repository}/blobs/uploads/`, { method: 'POST' })
    const upload = started.headers.get('location') ?? ''
    expect((await remove(repository)).status).toBe(204)
    for (const path of [
      `/v2/${repository}/manifests/v1`,
      `/v2/${repository}/manifests/${digest}`,
      `/v2/${repository}/blobs/${blob}`,
      `/v2/${repository}/tags/list`,
      `${api(repository)}/settings`,
      `${api(repository)}/images`,
      `${api(repository)}/tags/v1/history`,
      upload,
    ]) {
      expect([path, await status(path)]).toEqual([path, 404])
    }
    expect((await remove(repository)).status).toBe(404)
    expect(await catalog()).not.toContain(repository)
  })

  it('leaves nothing of the old repository to a new one of its name', async () => {
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'old')
    await changeSettings(repository, { visibility: 'private', provenance: 'required' })
    expect((await remove(repository)).status).toBe(204)
    await pushImage(registry, repository, 'new')
    const tags = await registry.anonymous(`/v2/${repository}/tags/list`)
    expect(await tags.json()).toMatchObject({ tags: ['new'] })
    expect(await status(`/v2/${repository}/manifests/${digest}`)).toBe(404)
    expect(await status(`${api(repository)}/tags/old/history`)).toBe(404)
    const settings = await registry.request(`${api(repository)}/settings`)
    expect(await settings.json()).toMatchObject({ visibility: 'public', provenance: 'optional' })
    await sweepAll(sweeper.garbage(3600))
    expect(await status(`/v2/${repository}/manifests/new`)).toBe(200)
  })

  it('ends its upload URLs, also for a new repository of its name', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const created = await registry.request(`${api(repository)}/tags/v2/upload-urls`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    const { url } = (await created.json()) as { url: string }
    expect((await remove(repository)).status).toBe(204)
    await pushImage(registry, repository, 'v1')
    const put = await fetch(url, { method: 'PUT', body: 'a file' })
    expect(put.status).toBe(404)
    expect(await status(`/v2/${repository}/manifests/v2`)).toBe(404)
  })

  it('keeps blobs that another repository has, and frees the bytes of the others', async () => {
    const [gone, kept] = [newRepository(), newRepository()]
    const blobs = partsOf((await pushImage(registry, gone, 'v1')).body)
    const shared = blobs.layers[0]?.digest ?? ''
    const mount = `/v2/${kept}/blobs/uploads/?mount=${shared}&from=${gone}`
    expect(await status(mount, { method: 'POST' })).toBe(201)
    expect((await remove(gone)).status).toBe(204)
    // A deleted repository is no source of a mount.
    const other = `/v2/${kept}/blobs/uploads/?mount=${blobs.config.digest}&from=${gone}`
    expect(await status(other, { method: 'POST' })).toBe(202)
    const anywhere = `/v2/${newRepository()}/blobs/uploads/?mount=${blobs.config.digest}`
    expect(await status(anywhere, { method: 'POST' })).toBe(202)
    await sweepAll(sweeper.garbage(3600))
    expect(await status(`/v2/${kept}/blobs/${shared}`)).toBe(200)
    const keeping = await pushImageBlobs(registry, kept)
    const layers = [{ mediaType: 'application/octet-stream', digest: shared, size: 64 }]
    expect((await putManifest(registry, kept, 'v1', { ...keeping, layers })).status).toBe(201)
    await sweepAll(sweeper.garbage(0))
    expect(await status(`/v2/${kept}/blobs/${shared}`)).toBe(200)
    const left = await sql(registry, 'select 1 from blobs where digest = $1', [blobs.config.digest])
    expect(left).toEqual([])
  })

  it('removes a large content in bounded steps, which any process continues', async () => {
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'v1')
    await sql(
      registry,
      `with copied as (
         insert into manifests (repository_id, digest, media_type, bytes, pushed_by)
         select m.repository_id, 'sha256:' || encode(sha256(n::text::bytea), 'hex'), m.media_type,
                m.bytes, m.pushed_by
           from manifests m, generate_series(1, 1500) as n
          where m.digest = $1
         returning id, repository_id, digest
       ), edges as (
         insert into manifest_blobs (manifest_id, blob_id, repository_id)
         select c.id, e.blob_id, c.repository_id
           from copied c, manifest_blobs e
           join manifests m on m.id = e.manifest_id
          where m.digest = $1
       )
       insert into tags (repository_id, name, digest)
       select repository_id, 't' || id, digest
         from copied`,
      [digest],
    )
    const began = performance.now()
    expect((await remove(repository)).status).toBe(204)
    expect(performance.now() - began).toBeLessThan(2000)
    const { contents } = await sweeper.garbage(3600).sweep()
    expect(contents).toBeGreaterThan(0)
    expect(contents).toBeLessThanOrEqual(200)
    const other = await openSweeper(registry)
    await Promise.all([sweepAll(sweeper.garbage(3600)), sweepAll(other.garbage(3600))])
    await other.close()
    const left = `select (select count(*)::int from manifests m where m.repository_id = r.id) as manifests,
                         (select count(*)::int from tags t where t.repository_id = r.id) as tags,
                         (select count(*)::int from tag_history h where h.repository_id = r.id) as positions,
                         (select count(*)::int from repository_blobs b where b.repository_id = r.id) as blobs,
                         emptied
                    from repositories r
                   where deleted_name = $1`
    expect(await sql(registry, left, [repository])).toEqual([
      { manifests: 0, tags: 0, positions: 0, blobs: 0, emptied: true },
    ])
  })

  it('removes its row when the feed has no event of it any more', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    expect((await remove(repository)).status).toBe(204)
    await expect
      .poll(async () => (await feedOf(repository)).at(-1)?.type)
      .toBe('repository.deleted')
    await sweepAll(sweeper.garbage(3600))
    const row = 'select id from repositories where deleted_name = $1'
    expect(await sql(registry, row, [repository])).toHaveLength(1)
    await sql(
      registry,
      `delete from events e
        using repositories r
        where r.id = e.repository_id
          and r.deleted_name = $1`,
      [repository],
    )
    await sweepAll(sweeper.garbage(3600))
    expect(await sql(registry, row, [repository])).toEqual([])
  })

  it('is refused while the repository has an immutable tag', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    await changeSettings(repository, { immutableTags: ['w*'] })
    await pushImage(registry, repository, 'w1')
    const refused = await remove(repository)
    expect(refused.status).toBe(403)
    expect(await refused.text()).toContain('tag w1 is immutable: make the tags of the repository')
    expect(await status(`/v2/${repository}/manifests/v1`)).toBe(200)
    await changeSettings(repository, { immutableTags: [] })
    expect((await remove(repository)).status).toBe(204)
  })

  it('is one event, for those who could see the repository, and in the audit log', async () => {
    const [open, closed] = [newRepository(), newRepository()]
    await changeSettings(closed, { visibility: 'private' })
    for (const repository of [open, closed]) {
      await pushImage(registry, repository, 'v1')
      expect((await remove(repository)).status).toBe(204)
      await expect
        .poll(async () => (await feedOf(repository, asAdmin())).map(({ type }) => type))
        .toEqual(['image.pushed', 'image.tag.updated', 'repository.deleted'])
    }
    const seen = await feedOf(open)
    expect(seen.at(-1)).toMatchObject({
      type: 'repository.deleted',
      subject: open,
      data: { repository: open, tag: null, digest: null, previousDigest: null },
    })
    expect(seen.at(-1)?.data).not.toHaveProperty('actor')
    expect(await feedOf(closed)).toEqual([])
    // A new repository of the name does not show the past of the old one.
    await pushImage(registry, closed, 'v1')
    await expect
      .poll(async () => (await feedOf(closed)).map(({ type }) => type))
      .toEqual(['image.pushed', 'image.tag.updated'])
    const reader = await makeCredential(registry, { repositories: [closed], actions: ['pull'] })
    expect(await feedOf(closed, basic(reader.name, reader.secret))).toHaveLength(5)
    const audit = await registry.request(`/api/v1/audit?action=delete-repository`)
    const { entries } = (await audit.json()) as { entries: { repository: string }[] }
    expect(entries.map(({ repository }) => repository)).toContain(closed)
  })

  it('reaches clients that follow a tag of it', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    expect((await remove(repository)).status).toBe(204)
    const path = `/api/v1/events?repository=${repository}&tag=live&after=${start}`
    await expect
      .poll(async () => {
        const answer = await registry.anonymous(path)
        return ((await answer.json()) as { events: FeedEvent[] }).events.at(-1)?.type
      })
      .toBe('repository.deleted')
  })

  it('happens once when several requests delete it', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const answers = await Promise.all(Array.from({ length: 8 }, () => remove(repository)))
    const statuses = answers.map((answer) => answer.status).sort()
    expect(statuses).toEqual([204, ...Array(7).fill(404)])
  })

  it('and pushes at the same time leave a whole repository or none', async () => {
    for (let round = 0; round < 10; round += 1) {
      const repository = newRepository()
      const { digest, body } = await pushImage(registry, repository, 'v1')
      const pushes = ['a', 'b', 'c'].map((tag) => putManifest(registry, repository, tag, body))
      const [removed, ...pushed] = await Promise.all([remove(repository), ...pushes])
      expect(removed.status).toBe(204)
      for (const answer of pushed) expect([201, 400]).toContain(answer.status)
      // No push finds its blobs in a new repository, so none of them makes one.
      expect(await status(`/v2/${repository}/manifests/${digest}`)).toBe(404)
      for (const tag of ['a', 'b', 'c', 'v1']) {
        expect(await status(`/v2/${repository}/manifests/${tag}`)).toBe(404)
      }
      const types = (await feedOf(repository)).map(({ type }) => type)
      expect(types.indexOf('repository.deleted')).toBe(types.lastIndexOf('repository.deleted'))
    }
    await expect
      .poll(async () => sql(registry, 'select 1 from event_outbox'), { timeout: 10_000 })
      .toEqual([])
    const late = await sql(
      registry,
      `select e.type
         from events e
         join events d on d.repository_id = e.repository_id and d.type = 'repository.deleted'
        where e.position > d.position`,
    )
    expect(late).toEqual([])
  })

  it('needs the right to the settings of the whole repository', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    const as = async (actions: string[], tags?: string[]) => {
      const more = tags === undefined ? {} : { tags }
      const made = await makeCredential(registry, { repositories: [repository], actions, ...more })
      const headers = { authorization: basic(made.name, made.secret) }
      return (await registry.anonymous(api(repository), { method: 'DELETE', headers })).status
    }
    expect(await as(['pull', 'push', 'delete'])).toBe(403)
    expect(await as(['admin'], ['v*'])).toBe(403)
    expect(await as(['admin'])).toBe(204)
  })
})

type Parts = { config: { digest: string }; layers: { digest: string }[] }

const partsOf = (body: string) => JSON.parse(body) as Parts
