import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import { listTargets } from '../../src/db/deployments/deployment-reads.ts'
import type { LockedDeployment } from '../../src/db/deployments/deployments.ts'
import { listDesired, listDesiredVersions } from '../../src/db/deployments/desired.ts'
import { grantUnits, lockUnits, withdrawGrants } from '../../src/db/deployments/grants.ts'
import { listOpenDeploymentsOf } from '../../src/db/deployments/presence.ts'
import {
  changeTargets,
  listCandidates,
  listTargetsToPlan,
  settleTargets,
} from '../../src/db/deployments/targets.ts'
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
    `select d.id, r.id as "repositoryId", r.name as repository, d.tag, d.digest, d.rollout
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

type Units = Awaited<ReturnType<typeof units>>

/** The statements about many units. */
const STEPS: Record<string, (tx: Transaction, all: Units) => Promise<unknown>> = {
  'the units to update': (tx) => {
    const other = { ...deployment, id: '00000000-0000-4000-8000-000000000000' }
    return listCandidates(tx, other, undefined, { hostId: 0, unit: '' }, 5000)
  },
  'the targets to plan': (tx) => listTargetsToPlan(tx, deployment),
  'the locks': (tx, all) => lockUnits(tx, all),
  'the grants': (tx, all) => grantUnits(tx, deployment, all),
  'the withdrawals': (tx, all) => withdrawGrants(tx, deployment, all),
  'the changes': (tx, all) => {
    const change = { state: 'overdue', deadlineAt: null, reason: 'late' } as const
    return changeTargets(
      tx,
      deployment.id,
      all.map((unit) => ({ ...unit, ...change, from: 'waiting' })),
    )
  },
  'the end of the watch': (tx, all) => settleTargets(tx, deployment.id, all),
  'what hosts should run': (tx, all) => listDesired(tx, hostsOf(all)),
  'its versions': (tx, all) => listDesiredVersions(tx, hostsOf(all), [deployment.id]),
  'the table of a watcher': (tx) => listTargets(tx, [deployment.id], HOSTS),
  'hosts that return': (tx, all) => listOpenDeploymentsOf(tx, hostsOf(all)),
}

const hostsOf = (all: Units) => all.map(({ hostId }) => hostId)

/** Lets Postgres know of the targets what it knows at rest: all have concluded. */
async function analyzeAtRest(): Promise<void> {
  await client.query(`update targets set state = 'healthy'`)
  await client.query('vacuum analyze')
}

describe.each([
  ['when Postgres knows nothing of them', async () => {}],
  ['when it knows them from a time at rest', analyzeAtRest],
])('%s', (_, prepare) => {
  beforeAll(prepare)

  it.each(Object.keys(STEPS))('%s: nothing is compared with each unit', async (name) => {
    const all = await units()
    const rows = await readInVain((tx) => STEPS[name]?.(tx, all) ?? Promise.reject(name))
    expect(rows).toBeLessThan(HOSTS * IN_VAIN_PER_UNIT_MAX)
  })
})
