import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { mayManageHost } from '../../src/auth/hosts/host-rights.ts'
import { listManagedHosts } from '../../src/auth/hosts/managed-hosts.ts'
import { Database } from '../../src/db/database.ts'
import type { HostFilter, HostPlace } from '../../src/db/hosts/hosts.ts'
import { parseRepositoryGlob } from '../../src/oci/glob.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let database: TestDatabase
let db: Database

/** Patterns of which many cover each other. */
const PATTERNS = ['a', 'a/b', 'a/*', 'a/**', 'a*', 'a**', '*', '**', '*/b', '**/b', '**b']
  .concat(['a/b*', 'a/*b', 'a/**b', 'a*b', '*/*', 'a/*/b', '**/*', 'a/*/**', '*b*', 'a/**/b'])
  .map(parseRepositoryGlob)

const HOSTS = PATTERNS.flatMap((one) =>
  [[], ['b'], ['a/b'], ['a/**', 'b/*']].map((more) => [one, ...more.map(parseRepositoryGlob)]),
)

beforeAll(async () => {
  database = await createTestDatabase()
  db = new Database({ connection: database.url, connectionsMax: 1, onIdleError: () => {} })
  await db.query(
    `insert into hosts (name, state, trust, repositories, created_by)
     select 'h' || n, 'active', 'key', array(select json_array_elements_text(globs)), 'admin'
       from json_array_elements($1::json) with ordinality as h (globs, n)`,
    [JSON.stringify(HOSTS)],
  )
  await db.query(
    `insert into hosts (name, state, trust, repositories, created_by, expires_at)
     values ('waits', 'pending', 'key', '{}', '192.0.2.1', now() + interval '1 hour')`,
  )
  await db.query(
    `insert into hosts (name, state, trust, repositories, created_by, revoked_at)
     select name, 'revoked', trust, repositories, created_by, now() from hosts where state = 'active'`,
  )
})

afterAll(async () => {
  await db.close()
  await database.drop()
})

const NO_FILTER: HostFilter = {
  state: undefined,
  labels: undefined,
  repository: undefined,
  kernel: undefined,
}

/** Lists the repositories of all hosts, page by page. */
async function listAll(
  requester: Parameters<typeof listManagedHosts>[4],
  filter: Partial<HostFilter>,
  limit: number,
): Promise<string[]> {
  const found: string[] = []
  let after: HostPlace | undefined = { name: '', id: 0 }
  while (after !== undefined) {
    const page = await listManagedHosts(db, { ...NO_FILTER, ...filter }, after, limit, requester)
    expect(page.hosts.length).toBeLessThanOrEqual(limit)
    found.push(...page.hosts.map(({ repositories }) => repositories.join(' ')))
    after = page.next
  }
  return found.sort()
}

it('a list has the hosts that its caller may manage, for any patterns', async () => {
  const requests = fc.record({
    globs: fc.uniqueArray(fc.constantFrom(...PATTERNS), { minLength: 1, maxLength: 4 }),
    state: fc.constantFrom(undefined, 'active', 'revoked', 'pending' as const),
    limit: fc.constantFrom(7, 1000),
  })
  await fc.assert(
    fc.asyncProperty(requests, async ({ globs, state, limit }) => {
      const grants = [{ actions: ['admin' as const], repositories: globs, tags: null }]
      const hosts = state === 'pending' ? [] : HOSTS
      const expected = hosts
        .filter((repositories) => mayManageHost(grants, repositories))
        .map((repositories) => repositories.join(' '))
      const waiting = state === undefined || state === 'pending' ? [''] : []
      expect(await listAll({ grants }, { state }, limit)).toEqual([...expected, ...waiting].sort())
    }),
    { numRuns: 150 },
  )
})

it('a caller without admin sees no host, and an administrator sees all', async () => {
  const pull = [{ actions: ['pull' as const], repositories: [...PATTERNS], tags: null }]
  expect(await listAll({ grants: pull }, {}, 100)).toEqual([])
  expect(await listAll({ grants: [] }, { state: 'pending' }, 100)).toEqual([])
  expect(await listAll({ grants: null }, {}, 100)).toHaveLength(HOSTS.length + 1)
})
