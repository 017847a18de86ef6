import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { QuestionBudget } from '../../src/http/question-budget.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const TAGS = 12_000
const PULL_MILLISECONDS_MAX = 2_000

let registry: TestRegistry
let repository: string
/** Before all events. */
let start: string

beforeAll(async () => {
  registry = await startRegistry()
  const page = await registry.anonymous('/api/v1/events?n=0')
  start = ((await page.json()) as { cursor: string }).cursor
  repository = newRepository()
  await pushImage(registry, repository, 'live')
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await client.query(
    `insert into tags (repository_id, name, digest)
     select t.repository_id, 'a' || n || repeat('a', 80), t.digest
       from tags t, generate_series(1, $1) as n
      where t.name = 'live'`,
    [TAGS],
  )
  await client.query(
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select 1000 + n, gen_random_uuid(), 'image.tag.updated', r.id, repeat('a', 120) || n, now(), '{}'
       from repositories r, generate_series(1, $1) as n`,
    [TAGS],
  )
  await client.query('update feed set position = 1000 + $1', [TAGS])
  await client.end()
})
afterAll(() => registry.close())

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

describe('a stranger with many patterns', () => {
  const patterns = (count: number) =>
    Array.from({ length: count }, (_, index) => `&tag=${'*a'.repeat(40)}${index}b`).join('')

  it('does not slow down a pull', async () => {
    const asked = Array.from({ length: 24 }, () =>
      registry.anonymous(`/api/v1/events?after=${start}${patterns(8)}`),
    )
    const pulls: number[] = []
    for (let round = 0; round < 20; round += 1) {
      pulls.push(
        await milliseconds(async () => {
          const answer = await registry.anonymous(`/v2/${repository}/manifests/live`)
          expect(answer.status).toBe(200)
          await answer.arrayBuffer()
        }),
      )
    }
    expect(Math.max(...pulls)).toBeLessThan(PULL_MILLISECONDS_MAX)
    for (const answer of await Promise.all(asked)) expect([200, 429, 503]).toContain(answer.status)
  })

  it('may give eight with a star, and more names', async () => {
    const { status } = await registry.request(`/api/v1/events?n=1${patterns(9)}`)
    expect(status).toBe(400)
    const names = Array.from({ length: 50 }, (_, index) => `&repository=a/${index}`).join('')
    expect((await registry.request(`/api/v1/events?n=1${names}`)).status).toBe(200)
  })

  it('gets a page that ends early, and continues from its cursor', async () => {
    let after = start
    for (let pages = 0, more = true; more; pages += 1) {
      expect(pages).toBeLessThan(100)
      const answer = await registry.request(`/api/v1/events?after=${after}${patterns(8)}`)
      expect(answer.status).toBe(200)
      const page = (await answer.json()) as { cursor: string; more: boolean; events: object[] }
      expect(page.events).toEqual([])
      more = page.more
      after = page.cursor
    }
  })
})

describe('a snapshot of too many tags', () => {
  it('is refused before its images are read', async () => {
    const answer = await registry.request(`/api/v1/events?snapshot=1&repository=${repository}`)
    expect(answer.status).toBe(400)
    expect(await answer.text()).toContain('a snapshot has at most 10000 tags')
  })

  it('is read when its tags are named', async () => {
    const path = `/api/v1/events?snapshot=1&repository=${repository}&tag=liv*`
    const answer = await registry.request(path)
    const { snapshot } = (await answer.json()) as { snapshot: { tag: string }[] }
    expect(snapshot.map(({ tag }) => tag)).toEqual(['live'])
  })
})

/** Lets each list of tags wait until its statement ends, or the transaction of this connection. */
async function lockTags({ databaseUrl }: TestRegistry): Promise<pg.Client> {
  const client = new pg.Client(databaseUrl)
  await client.connect()
  await client.query('begin')
  await client.query('lock table tags in access exclusive mode')
  return client
}

describe('the budget for questions', () => {
  it('counts time by address, an IPv6 address with its /64, and is earned again', () => {
    let now = 0
    const budget = new QuestionBudget(() => now)
    budget.spend('2001:db8::1', undefined, 60_000)
    expect(() => budget.admit('2001:db8::2', undefined)).toThrow(/took too much time, try again in/)
    expect(() => budget.admit('2001:db8:0:1::2', undefined)).not.toThrow()
    expect(() => budget.admit('2001:db8::1', 'builder')).not.toThrow()
    now = 120_000
    expect(() => budget.admit('2001:db8::2', undefined)).not.toThrow()
  })

  it('answers 429 with Retry-After, and leaves pulls alone', async () => {
    const own = await startRegistry()
    try {
      const name = newRepository()
      await pushImage(own, name, 'live')
      const client = await lockTags(own)
      const list = () => own.anonymous(`/v2/${name}/tags/list`)
      const first = await list()
      expect(first.status).toBe(503)
      expect(await first.text()).toContain('takes more than 2 s')
      for (let round = 0; round < 3; round += 1) await Promise.all([list(), list()])
      const refused = await list()
      expect(refused.status).toBe(429)
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
      await client.query('rollback')
      await client.end()
      expect((await own.anonymous(`/v2/${name}/manifests/live`)).status).toBe(200)
      expect((await own.request(`/v2/${name}/tags/list`)).status).toBe(200)
    } finally {
      await own.close()
    }
  })

  it('ends a statement when its client leaves', async () => {
    const client = await lockTags(registry)
    const leaving = new AbortController()
    const left = registry
      .request(`/v2/${repository}/tags/list`, { signal: leaving.signal })
      .catch(() => 'left')
    const waiting = async () => {
      const { rows } = await client.query<{ count: string }>(
        `select count(*) as count
           from pg_locks
          where not granted
            and relation = 'tags'::regclass`,
      )
      return Number(rows[0]?.count)
    }
    await expect.poll(waiting, { interval: 20 }).toBe(1)
    leaving.abort()
    expect(await left).toBe('left')
    await expect.poll(waiting, { timeout: 1_500, interval: 20 }).toBe(0)
    await client.query('rollback')
    await client.end()
  })

  it('logs no failure when clients leave that wait for their turn', async () => {
    const own = await startRegistry({ ROOKERY_LOG_LEVEL: 'debug' })
    onTestFinished(() => own.close())
    const name = newRepository()
    await pushImage(own, name, 'live')
    const client = await lockTags(own)
    const leaving = new AbortController()
    const asked = Array.from({ length: 4 }, () =>
      own.anonymous(`/v2/${name}/tags/list`, { signal: leaving.signal }).catch(() => 'left'),
    )
    const lines = () => own.log.map((line) => JSON.parse(line))
    const statuses = () =>
      lines().flatMap(({ path, status }) => (path === `/v2/${name}/tags/list` ? [status] : []))
    const open = async () => {
      const text = await (await own.request('/metrics')).text()
      return Number(/^rookery_http_requests_in_flight (\d+)/m.exec(text)?.[1])
    }
    await expect.poll(open, { interval: 20 }).toBe(asked.length + 1)
    leaving.abort()
    expect(await Promise.all(asked)).toEqual(asked.map(() => 'left'))
    await expect.poll(statuses, { interval: 20 }).toEqual(asked.map(() => 499))
    await client.query('rollback')
    await client.end()
    expect(lines().filter(({ level }) => level === 'error' || level === 'warn')).toEqual([])
  })
})
