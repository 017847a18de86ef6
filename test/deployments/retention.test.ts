import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { removeContent } from '../../src/db/registry/repository-deletions.ts'
import { pruneDeployments } from '../../src/deployments/retention.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { deploymentsOf, followed, pushKernel } from './rolling.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry
let db: Database

beforeAll(async () => {
  registry = await startRegistry()
  db = new Database({ connection: registry.databaseUrl, connectionsMax: 1, onIdleError: () => {} })
})
afterAll(async () => {
  await db.close()
  await registry.close()
})

/** Adds deployments of a tag that ended, with one target each, as old as their distance from the newest. */
async function addEnded(repository: string, count: number, tag: string): Promise<void> {
  await rowsOf(
    registry,
    `with made as (
       insert into deployments (id, repository_id, tag, number, digest, kind, state, rollout, actor,
                                targets_made, wake_at, finished_at)
       select gen_random_uuid(), r.id, $3, n, 'sha256:' || n, 'push', 'succeeded', '{}', 'admin', true, null,
              now() - make_interval(days => $2 - n)
         from repositories r, generate_series(1, $2) n
        where r.name = $1
       returning id
     )
     insert into targets (deployment_id, host_id, unit, place, state)
     select made.id, h.id, 'www', 1, 'healthy'
       from made, (select id from hosts limit 1) h`,
    [repository, count, tag],
  )
}

it('old deployments go with their targets, but not the newest of each tag and none that is open', async () => {
  const { repository, becomes } = await followed(registry, 1)
  await pushKernel(registry, repository)
  await becomes('rolling', 'a granted')
  await rowsOf(
    registry,
    `update deployments
        set number = 1000, created_at = now() - interval '1 year'`,
  )
  const other = newRepository()
  await pushKernel(registry, other)
  await addEnded(repository, 40, 'old')
  await addEnded(other, 3, 'old')
  // Of 40, those of the last 20 days and the newest 5 stay.
  expect(await pruneDeployments(db, 20, undefined, 5)).toBe(20)
  expect(await pruneDeployments(db, 20, undefined, 5)).toBe(0)
  const numbers = (await deploymentsOf(registry, repository)).map(({ number }) => number)
  expect(numbers).toEqual([...Array.from({ length: 20 }, (_, at) => at + 21), 1000])
  // Of 20 that are left, the newest 5 stay at any age.
  expect(await pruneDeployments(db, 0, undefined, 5)).toBe(15)
  expect(await deploymentsOf(registry, other)).toHaveLength(3)
  const [left] = await rowsOf<{ count: number }>(
    registry,
    'select count(*)::integer as count from targets',
  )
  expect(left?.count).toBe(5 + 3 + 1)
})

it('the deployments of a deleted repository are removed in steps', async () => {
  const repository = newRepository()
  await pushKernel(registry, repository)
  await addEnded(repository, 5, 'old')
  const [found] = await rowsOf<{ id: number }>(
    registry,
    'select id::integer as id from repositories where name = $1',
    [repository],
  )
  const steps: number[] = []
  for (let removed = 1; removed > 0 && steps.length < 50; ) {
    removed = await db.transaction((tx) => removeContent(tx, found?.id ?? 0, 3))
    steps.push(removed)
  }
  // The tag and the manifest, then targets and then deployments, three at a time.
  expect(steps.slice(0, 6)).toEqual([1, 1, 3, 2, 3, 2])
  expect(await deploymentsOf(registry, repository)).toEqual([])
})
