import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { builder } from '../cli/builder.ts'
import { EMPTY, expectedOf, formOf, pushBuild } from '../images/image-fixtures.ts'
import { eventually } from '../support/eventually.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

type Output = { kernel: string; own: boolean; images: { repository: string }[] }
type Reproductions = { reproducible: boolean | null; outputs: Output[]; more: boolean }

const { input_id: INPUTS } = expectedOf('hello-key-2')

let registry: TestRegistry
let mine: string

beforeAll(async () => {
  registry = await startRegistry()
  await pushBuild(registry, 'mine/www', 'v1', 'hello-key-2')
  await pushBuild(registry, 'stranger/www', 'v1', 'hello-key-4-same-input-different-output')
  const made = await makeCredential(registry, {
    repositories: ['mine/**'],
    actions: ['push', 'pull'],
  })
  mine = basic(made.name, made.secret)
  // A second build of the same kernel, by another builder: one alone shows nothing.
  const again = await registry.anonymous('/api/v1/repositories/mine/www/images?tag=v1', {
    method: 'POST',
    headers: { authorization: mine },
    body: formOf('hello-key-2'),
  })
  expect(again.status).toBe(201)
})
afterAll(() => registry.close())

async function reproductions(query = '', headers: Record<string, string> = {}) {
  const answer = await registry.anonymous(`/api/v1/inputs/${INPUTS}${query}`, { headers })
  expect(answer.status).toBe(200)
  return (await answer.json()) as Reproductions
}

describe('the claim of a stranger', () => {
  it('does not change whether my build is reproducible', async () => {
    for (const found of [
      await reproductions('?repository=mine/www'),
      await reproductions('', { authorization: mine }),
    ]) {
      expect(found.reproducible).toBe(true)
      expect(found.outputs.map(({ own, images }) => [own, images[0]?.repository])).toEqual([
        [true, 'mine/www'],
        [false, 'stranger/www'],
      ])
    }
    expect((await reproductions()).reproducible).toBeNull()
    const host = new URL(registry.url).host
    const { status, stdout } = await builder(['search', 'inputs', host, INPUTS])
    expect(status).toBe(0)
    expect(stdout).toContain('claimed by others')
  })

  it('is mine when I push it myself', async () => {
    await pushBuild(registry, 'both/www', 'v1', 'hello-key-2')
    await pushBuild(registry, 'both/www', 'v2', 'hello-key-4-same-input-different-output')
    expect((await reproductions('?repository=both/www')).reproducible).toBe(false)
    const host = new URL(registry.url).host
    const words = ['search', 'inputs', host, INPUTS, '--repository', 'both/www']
    const { status, stdout } = await builder(words)
    expect(status).toBe(1)
    expect(stdout).toContain('not reproducible')
  })
})

describe('thousands of private images of a stranger', () => {
  beforeAll(async () => {
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await client.query(`insert into repositories (name, visibility) values ('hidden/a', 'private')`)
    await client.query(
      `with made as (
         insert into manifests (repository_id, digest, media_type, bytes, pushed_by)
         select r.id, 'sha256:' || lpad(to_hex(n), 64, '0'), 'a/b', '{}', 'stranger'
           from repositories r, generate_series(1, 3000) as n
          where r.name = 'hidden/a'
         returning id, repository_id
       ), copied as (
         insert into images (manifest_id, repository_id, kernel_digest, target, abi_version, devices, input_id)
         select made.id, made.repository_id, i.kernel_digest, 'hvt', 2, '{}', i.input_id
           from made, images i
           join repositories r on r.id = i.repository_id
          where r.name = 'mine/www'
         returning manifest_id
       )
       select count(*) from copied`,
    )
    await client.query(
      `insert into image_layers (manifest_id, blob_id, role)
       select hidden.manifest_id, l.blob_id, l.role
         from images hidden
         join repositories h on h.id = hidden.repository_id and h.name = 'hidden/a',
              image_layers l
         join images i on i.manifest_id = l.manifest_id
         join repositories r on r.id = i.repository_id and r.name = 'mine/www'`,
    )
    await client.end()
  })

  it('neither empty nor change the answers to others', async () => {
    const { outputs } = await reproductions('?repository=mine/www')
    const [first] = outputs
    expect(first?.images.map(({ repository }) => repository)).toContain('mine/www')
    const kernel = await registry.anonymous(`/api/v1/kernels/${first?.kernel}?n=5`)
    const listed = (await kernel.json()) as { images: { repository: string }[] }
    expect(listed.images.map(({ repository }) => repository)).toContain('mine/www')
    const search = await registry.anonymous('/api/v1/packages/opam/bigstringaf?n=50')
    const hits = (await search.json()) as { images: { repository: string }[]; truncated: boolean }
    expect(hits.images.map(({ repository }) => repository)).toContain('mine/www')
    expect(JSON.stringify([outputs, listed, hits])).not.toContain('hidden')
    expect(hits.truncated).toBe(false)
  })
})

describe('the private work of others', () => {
  const EVENTS = 30_000
  const REPOSITORIES = 10_500
  let start: string
  let lister: Record<string, string>

  beforeAll(async () => {
    const page = await registry.anonymous('/api/v1/events?n=0')
    start = ((await page.json()) as { cursor: string }).cursor
    // Patterns with several stars are compared with names in this process.
    const made = await makeCredential(registry, { repositories: ['*n*e/www*'], actions: ['pull'] })
    lister = { authorization: basic(made.name, made.secret) }
    await pushBuild(registry, 'mine/www', 'first', 'hello-key-2')
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    const position = async () =>
      Number((await client.query('select position from feed')).rows[0].position)
    const before = await position()
    await eventually(async () => expect(await position()).toBeGreaterThan(0))
    await client.query(
      `insert into repositories (name, visibility)
       select 'hidden/' || n, 'private'
         from generate_series(1, $1::int) as n`,
      [REPOSITORIES],
    )
    await client.query(
      `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
       select $2::bigint + 10 + n, gen_random_uuid(), 'image.tag.updated', r.id, 'live', now(), '{}'
         from repositories r, generate_series(1, $1::int) as n
        where r.name = 'hidden/a'`,
      [EVENTS, before],
    )
    await client.query('update feed set position = $1', [before + 10 + EVENTS])
    await client.end()
    await pushBuild(registry, 'mine/www', 'second', 'hello-key-2')
  })

  it('neither ends nor empties a page of the feed', async () => {
    const path = `/api/v1/events?after=${start}&type=image.tag.updated`
    const read = async () => {
      const answer = await registry.anonymous(path)
      expect(answer.status).toBe(200)
      return (await answer.json()) as { events: { subject: string }[]; more: boolean }
    }
    await expect.poll(async () => (await read()).events.length).toBe(2)
    const page = await read()
    expect(page.events.map(({ subject }) => subject)).toEqual(['mine/www:first', 'mine/www:second'])
    expect(page.more).toBe(false)
  })

  it('wakes no long poll of others', async () => {
    const statements: string[] = []
    const { connection } = Database.prototype
    const spy = vi.spyOn(Database.prototype, 'connection').mockImplementation(async function (
      this: Database,
    ) {
      statements.push('question')
      return Reflect.apply(connection, this, [])
    })
    const { cursor } = (await (await registry.anonymous('/api/v1/events?n=0')).json()) as {
      cursor: string
    }
    const poll = registry.anonymous(`/api/v1/events?after=${cursor}&wait=60&repository=mine/**`)
    const waiting = async () => {
      const text = await (await registry.request('/metrics')).text()
      return /^rookery_feed_clients (\d+)/m.exec(text)?.[1]
    }
    await expect.poll(waiting).toBe('1')
    for (const tag of ['a', 'b', 'c']) await pushBuild(registry, 'stranger/www', tag, 'hello-key-1')
    expect(statements).toEqual([])
    await pushBuild(registry, 'mine/www', 'third', 'hello-key-2')
    const page = (await (await poll).json()) as { events: { subject: string }[] }
    expect(page.events.length).toBeGreaterThan(0)
    spy.mockRestore()
  })

  it('makes no snapshot and no list of a credential too large', async () => {
    for (const path of ['/api/v1/events?snapshot=1', '/v2/_catalog']) {
      const answer = await registry.anonymous(path, { headers: lister })
      const text = await answer.text()
      expect([path, answer.status, text]).toEqual([path, 200, expect.stringContaining('mine/www')])
      expect(text).not.toContain('hidden')
    }
  })
})

describe('thousands of referrers of a stranger', () => {
  it('leave mine where it was, and every page says that there are more', async () => {
    const subject = await pushBuild(registry, 'mine/signed', 'v1', 'hello-key-2')
    const signature = await putManifest(registry, 'mine/signed', 'mine', {
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      artifactType: 'application/vnd.example.signature',
      config: EMPTY,
      layers: [EMPTY],
      subject: { mediaType: IMAGE_MANIFEST, digest: subject, size: 1 },
    })
    const mine = signature.headers.get('docker-content-digest')
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await client.query(
      `insert into manifests (repository_id, digest, media_type, artifact_type, bytes, pushed_by, subject, annotations)
       select m.repository_id, 'sha256:' || lpad(to_hex(n), 64, '0'), m.media_type, 'a/b', '{}',
              'stranger', m.subject, json_build_object('large', repeat('x', 20000))::text
         from manifests m, generate_series(1, 1200) as n
        where m.digest = $1`,
      [mine],
    )
    await client.end()
    const path = `/v2/mine/signed/referrers/${subject}`
    const digests: string[] = []
    let next: string | undefined = path
    for (let pages = 0; next !== undefined; pages += 1) {
      expect(pages).toBeLessThan(20)
      const answer: Response = await registry.anonymous(next)
      const { manifests } = (await answer.json()) as { manifests: { digest: string }[] }
      expect(manifests.length).toBeGreaterThan(0)
      digests.push(...manifests.map(({ digest }) => digest))
      next = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get('link') ?? '')?.[1]
    }
    expect(digests[0]).toBe(mine)
    expect(new Set(digests).size).toBe(1201)
    const only = await registry.anonymous(`${path}?artifactType=application/vnd.example.signature`)
    const { manifests } = (await only.json()) as { manifests: { digest: string }[] }
    expect(manifests.map(({ digest }) => digest)).toEqual([mine])
    expect(only.headers.get('link')).toBeNull()
  })
})
