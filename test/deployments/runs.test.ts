import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { expectError, newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { KERNEL, OTHER, OTHER_KERNEL, report } from './reporting.ts'
import { rowsOf } from './rows.ts'

type Run = {
  host: string
  unit: string
  repository: string
  kernel: string
  from: string
  to: string | null
  versions?: string[]
}

let registry: TestRegistry
let web: TestHost
let other: TestHost
let repository: string
let second: string

beforeAll(async () => {
  registry = await startRegistry()
  repository = newRepository()
  second = newRepository()
  await pushBuild(registry, repository, 'live')
  await pushBuild(registry, second, 'live', OTHER)
  web = await enrolHost(registry, { name: 'web-1' })
  other = await enrolHost(registry, { name: 'web-2' })
  const follows = { repository, tag: 'live' }
  await report(web, { follows, state: 'healthy', kernel: KERNEL })
  await report(web, { follows, state: 'healthy', kernel: OTHER_KERNEL })
  await report(web, { follows, state: 'healthy', kernel: KERNEL })
  const another = { repository: second, tag: 'live' }
  await report(other, { follows: another, state: 'healthy', kernel: OTHER_KERNEL }, 'dns')
})
afterAll(() => registry.close())

async function runs(query = '', headers: Record<string, string> = {}): Promise<Run[]> {
  const send = Object.keys(headers).length === 0 ? registry.request : registry.anonymous
  const answer = await send(`/api/v1/runs${query}`, { headers })
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 200 })
  return JSON.parse(text).runs
}

/** Runs in short: host, unit and the kernel's name, and `now` for one that goes on. */
const short = (found: Run[]) =>
  found.map(({ host, unit, kernel, to }) =>
    [host, unit, kernel === KERNEL ? 'one' : 'two', ...(to === null ? ['now'] : [])].join(' '),
  )

const ALL = ['web-2 dns two now', 'web-1 www one now', 'web-1 www two', 'web-1 www one']

describe('the runs of kernels', () => {
  it('say which kernel ran where and when, newest first', async () => {
    const found = await runs()
    expect(short(found)).toEqual(ALL)
    const [, now, earlier] = found
    expect(earlier).toMatchObject({ repository, to: now?.from })
    expect(new Date(now?.from ?? '').getTime()).toBeLessThanOrEqual(Date.now())
  })

  it.each<[string, () => string, string[]]>([
    ['kernel', () => `?kernel=${OTHER_KERNEL}`, ['web-2 dns two now', 'web-1 www two']],
    ['repository', () => `?repository=${second}`, ['web-2 dns two now']],
    ['host', () => '?host=web-1', ALL.slice(1)],
    ['host that does not exist', () => '?host=none', []],
    ['what still runs', () => '?running=1', ALL.slice(0, 2)],
    ['all of them', () => `?host=web-1&kernel=${KERNEL}&running=1`, ['web-1 www one now']],
  ])('are found by %s', async (_, query, expected) => {
    expect(short(await runs(query()))).toEqual(expected)
  })

  it('are found by a package of their image, and its versions', async () => {
    const found = await runs('?package=dune&running=1')
    expect(short(found)).toEqual(ALL.slice(0, 2))
    expect(found[1]?.versions).toEqual(['3.23.1'])
    const query = (text: string) => `?package=dune&version=${encodeURIComponent(text)}`
    expect(short(await runs(query('< 3.24')))).toEqual(['web-1 www one now', 'web-1 www one'])
    expect(short(await runs(query('>= 3.24')))).toEqual(['web-2 dns two now'])
    // The repository has no image with the kernel that ran for a while: nothing is known of its packages.
    expect(short(await runs('?package=dune'))).not.toContain('web-1 www two')
    expect(await runs('?package=none')).toEqual([])
    expect(short(await runs('?package=bash&ecosystem=deb&running=1'))).toContain(
      'web-1 www one now',
    )
    expect(await runs('?package=dune&ecosystem=deb')).toEqual([])
  })

  it('are paged', async () => {
    const found: Run[] = []
    let path = '/api/v1/runs?n=1&host=web-1'
    while (path !== '') {
      const answer = await registry.request(path)
      found.push(...((await answer.json()) as { runs: Run[] }).runs)
      path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1] ?? ''
    }
    expect(short(found)).toEqual(ALL.slice(1))
  })

  it('are found behind many of others that the caller may not see', async () => {
    const mine = `mine/${newRepository().replaceAll('/', '-')}`
    await rowsOf(
      registry,
      `insert into runs (host_id, unit, repository, kernel, from_at, to_at)
       select $1, 'old', case when n = 0 then $2 else 'others/www' end, $3, now(), now()
         from generate_series(0, 2500) as n`,
      [web.id, mine, KERNEL],
    )
    const { name, secret } = await makeCredential(registry, {
      repositories: ['mine/*'],
      actions: ['push'],
    })
    const headers = { authorization: basic(name, secret) }
    const found: Run[] = []
    let path = '/api/v1/runs?n=10'
    for (let pages = 0; path !== '' && pages < 10; pages += 1) {
      const answer = await registry.anonymous(path, { headers })
      found.push(...((await answer.json()) as { runs: Run[] }).runs)
      path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1] ?? ''
    }
    expect(found.map((run) => run.repository)).toEqual([mine])
    await rowsOf(registry, `delete from runs where unit = 'old'`)
  })
})

describe('who sees runs', () => {
  it.each<[string, string[], string[], string[]]>([
    ['may push there', ['push'], ['REPOSITORY'], ALL.slice(1)],
    ['administers the repository', ['admin'], ['REPOSITORY'], ALL.slice(1)],
    ['may only pull', ['pull'], ['**'], []],
    ['has another repository', ['push', 'admin'], ['x/y'], []],
    ['has a pattern with several stars', ['push'], ['*/*'], ALL],
  ])('a caller who %s', async (_, actions, patterns, expected) => {
    const repositories = patterns.map((one) => one.replace('REPOSITORY', repository))
    const { name, secret } = await makeCredential(registry, { repositories, actions })
    expect(short(await runs('', { authorization: basic(name, secret) }))).toEqual(expected)
  })

  it('no stranger', async () => {
    await expectError(await registry.anonymous('/api/v1/runs'), 401, 'UNAUTHORIZED')
  })

  it.each([
    ['?running=yes', 'QUERY_INVALID'],
    ['?kernel=x', 'DIGEST_INVALID'],
    ['?package=a&version=3', 'REQUEST_INVALID'],
    ['?version=%3C3', 'REQUEST_INVALID'],
    ['?package=a&ecosystem=npm', 'QUERY_INVALID'],
    ['?last=7', 'QUERY_INVALID'],
  ])('with a wrong filter: %s', async (query, code) => {
    await expectError(await registry.request(`/api/v1/runs${query}`), 400, code)
  })
})
