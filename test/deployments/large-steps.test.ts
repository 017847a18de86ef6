import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import type { LockedDeployment } from '../../src/db/deployments/deployments.ts'
import { listDesired } from '../../src/db/deployments/desired.ts'
import { grantUnits } from '../../src/db/deployments/grants.ts'
import { listCandidates } from '../../src/db/deployments/targets.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pushKernel } from './rolling.ts'
import { followTag, rowsOf } from './rows.ts'

const HOSTS = 600
/** Rows that a statement may read in vain for each unit. One that compares all hosts with each unit reads hundreds. */
const IN_VAIN_PER_UNIT_MAX = 10

let registry: TestRegistry
let client: pg.Client
let deployment: LockedDeployment

beforeAll(async () => {
  registry = await startRegistry()
  const repository = newRepository()
  await pushKernel(registry, repository)
  const hosts = Array.from({ length: HOSTS }, (_, at) => ({ name: `host-${at}` }))
  await followTag(registry, repository, 'live', hosts)
  await pushKernel(registry, repository)
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await vi.waitFor(
    async () => expect(await rowsOf(registry, `select 1 from targets`)).toHaveLength(HOSTS),
    { timeout: 20_000 },
  )
  const { rows } = await client.query<LockedDeployment>(
    `select d.id, r.name as repository, d.tag, d.digest, d.rollout
       from deployments d
       join repositories r on r.id = d.repository_id`,
  )
  deployment = rows[0] as LockedDeployment
})

afterAll(async () => {
  await client?.end()
  await registry?.close()
})

type Plan = Record<string, unknown> & { readonly Plans?: readonly Plan[] }

function inVain(plan: Plan): number {
  const removed = Object.entries(plan)
    .filter(([name]) => name.startsWith('Rows Removed by'))
    .reduce((sum, [, count]) => sum + Number(count) * Number(plan['Actual Loops']), 0)
  return (plan.Plans ?? []).reduce((sum, one) => sum + inVain(one), removed)
}

/** Runs the statement of a function, and returns the rows that Postgres read for nothing. */
async function readInVain(run: (tx: Transaction) => Promise<unknown>): Promise<number> {
  let found: number | undefined
  const query = async (text: string, values: unknown[]) => {
    const { rows } = await client.query(`explain (analyze, format json) ${text}`, values)
    found = inVain(rows[0]['QUERY PLAN'][0].Plan)
    return { rows: [] }
  }
  await client.query('begin')
  // All wait, as before the first grant, and the canary is on its way.
  await client.query(
    `update targets set state = case when place = 1 then 'granted' else 'waiting' end`,
  )
  await run({ query } as unknown as Transaction)
  await client.query('rollback')
  if (found === undefined) throw new Error('no statement was sent')
  return found
}

const units = async () => {
  const { rows } = await client.query(`select host_id as "hostId", name as unit from units`)
  return rows as { hostId: number; unit: string }[]
}

it('the units to update are found without a comparison of all hosts, also when Postgres knows nothing of them', async () => {
  const other = { ...deployment, id: '00000000-0000-4000-8000-000000000000' }
  const first = { hostId: 0, unit: '' }
  const rows = await readInVain((tx) => listCandidates(tx, other, undefined, first, 5000))
  expect(rows).toBeLessThan(HOSTS * IN_VAIN_PER_UNIT_MAX)
})

it('each unit is granted by its own target', async () => {
  const all = await units()
  const rows = await readInVain((tx) => grantUnits(tx, deployment, all))
  expect(rows).toBeLessThan(HOSTS * IN_VAIN_PER_UNIT_MAX)
})

it('what hosts should run is read by their own targets', async () => {
  const hosts = (await units()).map(({ hostId }) => hostId)
  const rows = await readInVain((tx) => listDesired(tx, hosts))
  expect(rows).toBeLessThan(HOSTS * IN_VAIN_PER_UNIT_MAX)
})
