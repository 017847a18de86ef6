import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import type { LockedDeployment } from '../../src/db/deployments/deployments.ts'
import { grantUnits } from '../../src/db/deployments/grants.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { grant, insertDeployment, KERNEL, OTHER, OTHER_KERNEL, report } from './reporting.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  await client.end()
  await registry.close()
})

it('a target that another step ends while a newer deployment is granted is not skipped once more', async () => {
  const repository = newRepository()
  const next = await pushBuild(registry, repository, 'next', OTHER)
  const digest = await pushBuild(registry, repository, 'live')
  const host = await enrolHost(registry)
  await report(host, { follows: { repository, tag: 'live' } })
  const older = await insertDeployment(registry, repository, digest)
  await grant(registry, host, older, KERNEL)
  const newer = await insertDeployment(registry, repository, next)
  await rowsOf(
    registry,
    `insert into targets (deployment_id, host_id, unit, place, state, kernel)
     values ($1, $2, 'www', 1, 'waiting', $3)`,
    [newer, host.id, OTHER_KERNEL],
  )
  const skipped = `select 1 from (
       select data as body from event_outbox
        union all
       select body from events
     ) e where body like '%"skipped"%' and body like $1`

  const step = new pg.Client(registry.databaseUrl)
  await step.connect()
  await step.query('begin')
  await step.query(`update targets set state = 'skipped' where deployment_id = $1`, [older])
  const locked = {
    id: newer,
    digest: next,
    repository,
    tag: 'live',
    rollout: { deadlineSeconds: 300 },
  }
  const units = [{ hostId: host.id, unit: 'www' }]
  const granted = grantUnits(client as unknown as Transaction, locked as LockedDeployment, units)
  // It waits for the row that the other step has changed.
  expect(await Promise.race([granted, delay(500)])).toBe(undefined)
  await step.query('commit')
  await step.end()
  expect(await granted).toEqual([{ hostId: String(host.id), unit: 'www', state: 'granted' }])
  expect(await rowsOf(registry, skipped, [`%${older}%`])).toEqual([])
})
