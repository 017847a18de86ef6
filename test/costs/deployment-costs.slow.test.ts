import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import {
  findNewestDigest,
  findOpenNumber,
  listDueDeployments,
  listOpenBefore,
  lockDeployment,
  notifyOpenDeployments,
} from '../../src/db/deployments/deployments.ts'
import { listDesired, listDesiredVersions } from '../../src/db/deployments/desired.ts'
import { listMissedTags, remakeTargets } from '../../src/db/deployments/missed-units.ts'
import { listOpenDeploymentsOf } from '../../src/db/deployments/presence.ts'
import { findFollowedTag, listMissedUnits } from '../../src/db/deployments/registrations.ts'
import { findReportContext } from '../../src/db/deployments/reports.ts'
import { findDueRollback } from '../../src/db/deployments/rollbacks.ts'
import { listCandidates, listTargetsToPlan } from '../../src/db/deployments/targets.ts'
import { skipTargetsOfUnit } from '../../src/db/deployments/units.ts'
import { skipTargetsOfHost } from '../../src/db/hosts/host-ends.ts'
import { parseDigest } from '../../src/oci/digest.ts'
import type { Tag } from '../../src/oci/reference.ts'
import { ROLLOUT } from '../deployments/deployment-rows.ts'
import { KERNEL } from '../deployments/reporting.ts'
import { rowsOf } from '../deployments/rows.ts'
import { type RunningUnit, runningUnit } from '../deployments/running-unit.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { countPages, type Statement } from './statements.ts'

const HOSTS = 10
const DEPLOYMENTS = 10_000
const DEPLOYMENTS_BEFORE = DEPLOYMENTS / 10
const TAG = 'live' as Tag

let registry: TestRegistry
let client: pg.Client
let unit: RunningUnit
let repositoryId: number
let deployment: string

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  unit = await runningUnit(registry)
  deployment = await unit.granted()
  const [row] = await rowsOf<{ id: string }>(
    registry,
    'select id from repositories where name = $1',
    [unit.repository],
  )
  repositoryId = Number(row?.id)
  await rowsOf(
    registry,
    `insert into hosts (name, state, trust, repositories, created_by)
     select 'grown-' || n, 'active', 'key', '{**}', 'admin' from generate_series(2, $1::integer) as n`,
    [HOSTS],
  )
}, 120_000)
afterAll(async () => {
  await client.end()
  await registry.close()
})

/** Adds deployments of the tag that newer ones superseded, with a target on each host. */
async function addFinished(from: number, to: number): Promise<void> {
  await rowsOf(
    registry,
    `with added as (
       insert into deployments (id, repository_id, tag, number, digest, kind, state, rollout, actor,
                                targets_made, wake_at, finished_at)
       select gen_random_uuid(), $1, $2, 2000 + n, 'sha256:' || lpad(to_hex(n), 64, '0'), 'push', 'superseded', $3,
              'admin', true, null, now()
         from generate_series($4::integer, $5::integer - 1) as n
       returning id
     )
     insert into targets (deployment_id, host_id, unit, place, state)
     select a.id, h.id, 'www', 1, 'skipped'
       from added a
      cross join hosts h`,
    [repositoryId, TAG, JSON.stringify(ROLLOUT), from, to],
  )
  await rowsOf(registry, 'vacuum analyze')
}

/** Returns the questions of the controller, of hosts and of reports. Each sends its statements to its argument. */
function questions(): Record<string, (tx: Transaction) => Promise<unknown>> {
  const { host, repository } = unit
  const { id } = host
  const locked = { id: deployment, repositoryId, repository, tag: TAG, number: 1001 }
  const candidates = { ...locked, rollout: ROLLOUT } as unknown as Parameters<
    typeof listCandidates
  >[1]
  return {
    'due deployments': (tx) => listDueDeployments(tx, 100),
    'a lock': (tx) => lockDeployment(tx, deployment),
    'older deployments': (tx) => listOpenBefore(tx, locked, 100),
    'open deployments': (tx) => notifyOpenDeployments(tx, repositoryId, [TAG]),
    'the newest open one': (tx) => findOpenNumber(tx, repositoryId, TAG),
    'the newest digest': (tx) => findNewestDigest(tx, repositoryId, TAG),
    'a rollback': (tx) => findDueRollback(tx, deployment),
    'the targets of a step': (tx) => listTargetsToPlan(tx, locked as never),
    'the units of a tag': (tx) =>
      listCandidates(tx, candidates, undefined, { hostId: 0, unit: '' }, 5_000),
    'desired units': (tx) => listDesired(tx, [id]),
    'versions of desired units': (tx) => listDesiredVersions(tx, [id], [deployment]),
    'a report': (tx) => findReportContext(tx, id, 'www', parseDigest(KERNEL)),
    'a registration': (tx) => findFollowedTag(tx, repository as never, TAG),
    'units that a tag missed': (tx) => listMissedUnits(tx, 60, 500),
    'tags that units missed': (tx) => listMissedTags(tx, 300, 100),
    'targets that were missed': (tx) => remakeTargets(tx, 300, 100),
    'a host that returns': (tx) => listOpenDeploymentsOf(tx, [id]),
    'a unit that leaves': (tx) => skipTargetsOfUnit(tx, id, 'www'),
    'a host that leaves': (tx) => skipTargetsOfHost(tx, id),
  }
}

/** The pages that each question reads. */
async function pages(): Promise<Map<string, number>> {
  const all = new Map<string, number>()
  for (const [name, ask] of Object.entries(questions())) {
    const sent: Statement[] = []
    const query = async (text: string, values: readonly unknown[] = []) => {
      sent.push({ text, values })
      return { rows: [{}] }
    }
    await ask({ query } as unknown as Transaction)
    expect([name, sent.length]).not.toEqual([name, 0])
    let sum = 0
    for (const statement of sent) sum += await countPages(client, statement)
    all.set(name, sum)
  }
  return all
}

it('what a deployment asks costs the same after ten thousand others of its tag, with ten hosts each', async () => {
  await addFinished(0, DEPLOYMENTS_BEFORE)
  const before = await pages()
  await addFinished(DEPLOYMENTS_BEFORE, DEPLOYMENTS)
  const grown = [...(await pages())].filter(([name, count]) => {
    return count > (before.get(name) ?? 0) * 1.3 + 30
  })
  expect(grown.map(([name, count]) => `${name}: ${before.get(name)} pages, then ${count}`)).toEqual(
    [],
  )
  expect([...before].filter(([, count]) => count > 300)).toEqual([])
}, 300_000)
