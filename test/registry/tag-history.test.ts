import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pageCursorOf } from '../support/cursors.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

type Position = {
  digest: string | null
  previousDigest: string | null
  reason: string
  movedAt: string
  present: boolean
  actor?: string
}

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const push = async (repository: string, tag = 'live') =>
  (await pushImage(registry, repository, tag)).digest
const tagPath = (repository: string, tag = 'live') =>
  `/api/v1/repositories/${repository}/tags/${tag}`

async function positions(repository: string, tag = 'live', query = ''): Promise<Position[]> {
  const answer = await registry.request(`${tagPath(repository, tag)}/history${query}`)
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { positions: Position[] }).positions
}

function rollback(repository: string, init: RequestInit & { digest?: string } = {}, tag = 'live') {
  const { digest, ...rest } = init
  return registry.request(`${tagPath(repository, tag)}/rollback`, {
    method: 'POST',
    ...rest,
    ...(digest === undefined
      ? {}
      : {
          headers: { 'content-type': 'application/json', ...rest.headers },
          body: JSON.stringify({ digest }),
        }),
  })
}

async function rolledBack(repository: string, digest?: string): Promise<string> {
  const answer = await rollback(repository, digest === undefined ? {} : { digest })
  expect(answer.status).toBe(200)
  const body = (await answer.json()) as { digest: string }
  expect(answer.headers.get('docker-content-digest')).toBe(body.digest)
  expect(await at(repository)).toBe(body.digest)
  return body.digest
}

async function at(repository: string, tag = 'live') {
  const answer = await registry.request(`/v2/${repository}/manifests/${tag}`, { method: 'HEAD' })
  return answer.headers.get('docker-content-digest')
}

const messageOf = async (answer: Response) =>
  ((await answer.json()) as { errors: { message: string }[] }).errors[0]?.message

describe('the history of a tag', () => {
  it('has every position, newest first', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await registry.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
    const c = await push(repository)
    const found = await positions(repository)
    expect(
      found.map(({ digest, previousDigest, reason }) => [digest, previousDigest, reason]),
    ).toEqual([
      [c, null, 'push'],
      [null, b, 'delete'],
      [b, a, 'push'],
      [a, null, 'push'],
    ])
    for (const { movedAt, actor } of found) {
      expect(movedAt).toMatch(/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      expect(actor).toBe('admin')
    }
  })

  it('comes in pages', async () => {
    const repository = newRepository()
    const pushed = []
    for (let count = 0; count < 5; count += 1) pushed.push(await push(repository))
    const seen: (string | null)[] = []
    let path: string | undefined = `${tagPath(repository)}/history?n=2`
    while (path !== undefined) {
      const answer = await registry.request(path)
      seen.push(
        ...((await answer.json()) as { positions: Position[] }).positions.map((one) => one.digest),
      )
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(seen.length).toBeLessThan(10)
    }
    expect(seen).toEqual(pushed.toReversed())
    expect(await positions(repository, 'live', '?n=0')).toEqual([])
  })

  it('shows which manifests are deleted', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await registry.request(`/v2/${repository}/manifests/${a}`, { method: 'DELETE' })
    const found = await positions(repository)
    expect(found.map(({ digest, present }) => [digest, present])).toEqual([
      [b, true],
      [a, false],
    ])
  })

  it('under /v2/ is an index of moves and deletes with times', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await registry.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
    const answer = await registry.anonymous(`/v2/${repository}/_oci/tag-history/live`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe(IMAGE_INDEX)
    const entry = (digest: string, event: string) => ({
      mediaType: IMAGE_MANIFEST,
      digest,
      size: expect.any(Number),
      annotations: {
        'org.opencontainers.distribution.tag.timestamp': expect.stringMatching(/\.\d{3}Z$/),
        'org.opencontainers.distribution.tag.event': event,
      },
    })
    expect(await answer.json()).toEqual({
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [entry(b, 'deleted'), entry(b, 'created'), entry(a, 'created')],
    })
    expect((await positions(repository))[0]).toMatchObject({ digest: null, present: false })
  })

  it('under /v2/ keeps deleted manifests, comes in pages, and refuses other filters', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await registry.request(`/v2/${repository}/manifests/${b}`, { method: 'DELETE' })
    const path = `/v2/${repository}/_oci/tag-history/live`
    const digests: string[] = []
    let next: string | undefined = `${path}?n=2`
    while (next !== undefined) {
      const answer = await registry.anonymous(next)
      const { manifests } = (await answer.json()) as { manifests: { digest: string }[] }
      digests.push(...manifests.map(({ digest }) => digest))
      next = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(digests.length).toBeLessThan(10)
    }
    expect(digests).toEqual([b, b, a])
    const none = await registry.anonymous(`${path}?n=0`)
    expect(none.headers.get('link')).toBeNull()
    expect(await none.json()).toMatchObject({ manifests: [] })
    for (const filter of ['before=2026-04-03T02%3A01%3A00Z', 'since=x', `digest=${a}`]) {
      const refused = await registry.anonymous(`${path}?${filter}`)
      expect(refused.status).toBe(400)
      expect(await messageOf(refused)).toMatch(/follow the Link header$/)
    }
  })

  it('asks anonymous callers of a private repository to authenticate, on every page', async () => {
    const repository = newRepository()
    await push(repository)
    await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ visibility: 'private' }),
    })
    const [first, last] = [await pageCursorOf(registry, 1), await pageCursorOf(registry, 2 ** 40)]
    for (const place of [repository, newRepository()]) {
      for (const path of [`${tagPath(place)}/history`, `/v2/${place}/_oci/tag-history/live`]) {
        for (const query of ['', `?last=${first}`, '?n=0', `?last=${last}`]) {
          expect((await registry.anonymous(`${path}${query}`)).status).toBe(401)
        }
      }
    }
    expect(await positions(repository, 'live', `?last=${first}`)).toEqual([])
    const never = await registry.request(`${tagPath(repository, 'no')}/history?last=${first}`)
    expect(never.status).toBe(404)
  })

  it('of a tag that never existed is not found', async () => {
    const repository = newRepository()
    await push(repository)
    for (const path of [
      `${tagPath(repository, 'no')}/history`,
      `/v2/${repository}/_oci/tag-history/no`,
    ]) {
      const answer = await registry.request(path)
      expect(answer.status).toBe(404)
      expect(await messageOf(answer)).toBe('tag no never existed')
    }
    expect((await registry.request(`${tagPath(newRepository())}/history`)).status).toBe(404)
    expect((await registry.request(`${tagPath(repository)}/history?last=x`)).status).toBe(400)
  })

  it('names the actor only to callers who have a right to the repository', async () => {
    const repository = newRepository()
    await push(repository)
    const answer = await registry.anonymous(`${tagPath(repository)}/history`)
    expect(answer.status).toBe(200)
    expect(await answer.text()).not.toMatch(/admin|actor/)
  })
})

describe('a rollback', () => {
  it('moves back, and the next one further back', async () => {
    const repository = newRepository()
    const [a, b, c] = [await push(repository), await push(repository), await push(repository)]
    expect(await rolledBack(repository)).toBe(b)
    expect(await rolledBack(repository)).toBe(a)
    const nothing = await rollback(repository)
    expect(nothing.status).toBe(409)
    expect(await messageOf(nothing)).toMatch(/no earlier position/)
    expect((await positions(repository)).map(({ digest, reason }) => [digest, reason])).toEqual([
      [a, 'rollback'],
      [b, 'rollback'],
      [c, 'push'],
      [b, 'push'],
      [a, 'push'],
    ])
  })

  it('after a push moves to the position before the push', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    expect(await rolledBack(repository)).toBe(a)
    const d = await push(repository)
    expect(await rolledBack(repository)).toBe(a)
    expect(await rolledBack(repository, d)).toBe(d)
    expect(await rolledBack(repository, b)).toBe(b)
    expect(await rolledBack(repository)).toBe(d)
  })

  it('restores a deleted tag', async () => {
    const repository = newRepository()
    await push(repository)
    const b = await push(repository)
    await registry.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
    expect(await rolledBack(repository)).toBe(b)
  })

  it('skips deleted manifests, and refuses a deleted one that is named', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await push(repository)
    await registry.request(`/v2/${repository}/manifests/${b}`, { method: 'DELETE' })
    const gone = await rollback(repository, { digest: b })
    expect(gone.status).toBe(404)
    expect(await messageOf(gone)).toMatch(/is deleted: push it again/)
    expect(await rolledBack(repository)).toBe(a)
  })

  it('refuses a digest that the tag never had', async () => {
    const repository = newRepository()
    const a = await push(repository)
    const other = await push(repository, 'other')
    const answer = await rollback(repository, { digest: other })
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toBe(
      `tag live was never at ${other}; a rollback goes back, such as to ${a}`,
    )
    expect((await rollback(repository, { digest: 'x' })).status).toBe(400)
    expect((await rollback(repository, {}, 'never')).status).toBe(404)
    expect((await rollback(newRepository())).status).toBe(404)
    expect(
      (
        await rollback(repository, {
          body: '{"to":1}',
          headers: { 'content-type': 'application/json' },
        })
      ).status,
    ).toBe(400)
  })

  it('searches a thousand positions, and reports that limit', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    try {
      await client.query(
        `insert into tag_history (repository_id, tag, digest, previous_digest, actor, reason)
         select id, 'live', $2, $2, 'ci', 'push'
           from repositories, generate_series(1, 1000)
          where name = $1`,
        [repository, b],
      )
    } finally {
      await client.end()
    }
    const named = await rollback(repository, { digest: a })
    expect(named.status).toBe(400)
    expect(await messageOf(named)).toMatch(
      /^tag live was not at .* among its last 1000; a rollback/,
    )
    const nothing = await rollback(repository)
    expect(nothing.status).toBe(409)
    expect(await messageOf(nothing)).toMatch(/no earlier position among its last 1000 whose/)
  })

  it('requires the precondition of its request', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    const stale = await rollback(repository, { headers: { 'if-match': `"${a}"` } })
    expect(stale.status).toBe(412)
    expect(await at(repository)).toBe(b)
    const right = await rollback(repository, { headers: { 'if-match': `"${b}"` } })
    expect(right.status).toBe(200)
    expect(right.headers.get('etag')).toBe(`"${a}"`)
    expect(await right.json()).toEqual({
      ...{ repository, tag: 'live', digest: a, previousDigest: b },
      deployments: [],
    })
  })

  it('is refused for an immutable tag, and for a caller without permission', async () => {
    const repository = newRepository()
    await push(repository)
    const b = await push(repository)
    await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ immutableTags: ['li*'] }),
    })
    const refused = await rollback(repository)
    expect(refused.status).toBe(403)
    expect(await messageOf(refused)).toMatch(/tag live is immutable/)
    expect(await at(repository)).toBe(b)
    expect(
      (await registry.anonymous(`${tagPath(repository)}/rollback`, { method: 'POST' })).status,
    ).toBe(401)
    const made = await registry.request('/api/v1/credentials', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        name: `other-${repository.slice(-8)}`,
        repositories: [repository],
        actions: ['push'],
        tags: ['v*'],
      }),
    })
    const { name, secret } = (await made.json()) as { name: string; secret: string }
    const bound = await registry.anonymous(`${tagPath(repository)}/rollback`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}` },
    })
    expect(bound.status).toBe(403)
    expect(await messageOf(bound)).toMatch(/may not push tag live/)
  })

  it('is in the audit log', async () => {
    const repository = newRepository()
    const [a, b] = [await push(repository), await push(repository)]
    await rolledBack(repository)
    const audit = await registry.request(`/api/v1/audit?repository=${repository}&action=rollback`)
    expect(((await audit.json()) as { entries: unknown[] }).entries).toMatchObject([
      { actor: 'admin', tags: ['live'], digest: a, detail: `from ${b}`, decision: 'allowed' },
    ])
  })
})

it('concurrent with moves records positions that each follow the previous one', async () => {
  const repository = newRepository()
  for (let count = 0; count < 3; count += 1) await push(repository)
  const statuses = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      if (index % 2 === 0) return push(repository).then(() => 201)
      return (await rollback(repository)).status
    }),
  )
  for (const status of statuses) expect([200, 201, 409]).toContain(status)
  const found = await positions(repository)
  for (const [index, { previousDigest }] of found.slice(0, -1).entries()) {
    expect(previousDigest).toBe(found[index + 1]?.digest)
  }
  expect(await at(repository)).toBe(found[0]?.digest)
})
