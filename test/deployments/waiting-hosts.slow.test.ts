import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { DesiredUnits } from '../../src/deployments/desired.ts'
import { ImageKernelsCache } from '../../src/deployments/image-kernels.ts'
import type { Report } from '../../src/deployments/report-changes.ts'
import { Reports } from '../../src/deployments/reports.ts'
import { DeploymentSignals } from '../../src/deployments/signals.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { Repository, Tag } from '../../src/oci/reference.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { eventually } from '../support/eventually.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { insertDeployment, KERNEL } from './reporting.ts'
import { followTag, rowsOf } from './rows.ts'

const HOSTS = 1_000
const CHECK_MILLISECONDS = 5_000

let registry: TestRegistry
let db: Database
let statements: string[]
let repository: Repository
let digest: string
let hostIds: number[]

beforeAll(async () => {
  registry = await startRegistry()
  db = new Database({ connection: registry.databaseUrl, connectionsMax: 2, onIdleError() {} })
  statements = []
  const query = db.query.bind(db)
  vi.spyOn(db, 'query').mockImplementation((text, values) => {
    statements.push(text)
    return query(text, values) as never
  })
  const transaction = db.transaction.bind(db)
  vi.spyOn(db, 'transaction').mockImplementation((work) =>
    transaction((tx) =>
      work({
        ...tx,
        query: (text, values) => {
          statements.push(text)
          return tx.query(text, values) as never
        },
      }),
    ),
  )
  repository = newRepository() as Repository
  digest = await pushBuild(registry, repository, 'live')
  const names = Array.from({ length: HOSTS }, (_, index) => ({ name: `host-${index}` }))
  await followTag(registry, repository, 'live', names)
  const rows = await rowsOf<{ id: string }>(registry, 'select id from hosts order by id')
  hostIds = rows.map(({ id }) => Number(id))
}, 60_000)
afterAll(async () => {
  vi.restoreAllMocks()
  await db.close()
  await registry.close()
})

it('a thousand waiting hosts cost one statement in five seconds, and all have their answer before the next check', async () => {
  const signals = new DeploymentSignals()
  const desired = new DesiredUnits({
    ...{ db, signals, kernels: new ImageKernelsCache(db) },
    onError: (error) => {
      throw error
    },
  })
  desired.start()
  const version = new Map<number, string>()
  const read = await Promise.all(hostIds.map((id) => desired.read(id)))
  for (const [index, id] of hostIds.entries()) version.set(id, read[index]?.version ?? '')
  let last = 0
  const waiting = hostIds.map(async (id) => {
    const { signal } = new AbortController()
    const answer = await desired.wait(id, (one) => one.version === version.get(id), 55, signal)
    last = performance.now()
    return answer.desired.units[0]?.digest
  })
  await eventually(() => expect(desired.waiting.count).toBe(HOSTS))
  statements.length = 0
  await new Promise((resolve) => setTimeout(resolve, 2 * CHECK_MILLISECONDS + 500))
  expect(statements.length).toBeGreaterThanOrEqual(1)
  expect(statements.length).toBeLessThanOrEqual(3)
  expect(desired.waiting.count).toBe(HOSTS)
  const deployment = await insertDeployment(registry, repository, digest)
  await rowsOf(
    registry,
    `with made as (
       insert into targets (deployment_id, host_id, unit, place, state, kernel)
       select $1, host_id, name, 1, 'granted', $2 from units
     )
     update units set granted_digest = $3, granted_by = $1, granted_at = now()`,
    [deployment, KERNEL, digest],
  )
  const granted = performance.now()
  statements.length = 0
  signals.emit({ kind: 'granted', id: deployment })
  expect(new Set(await Promise.all(waiting))).toEqual(new Set([digest]))
  expect(last - granted).toBeLessThan(CHECK_MILLISECONDS)
  // The changed hosts, and two pages of what they should run now.
  expect(statements.length).toBeLessThanOrEqual(5)
  await desired.stop()
}, 60_000)

it('a report of a unit that the registry knows takes three statements', async () => {
  const reports = new Reports(db, new ImageKernelsCache(db), () => {})
  const [id = 0] = hostIds
  const host = { id, name: 'host-0', author: { origin: null, tokenId: null, keyId: null } }
  const report: Report = {
    ...{ repository, tag: 'live' as Tag, target: null, devices: null, bootId: 'boot' },
    ...{ sequence: 10, kernel: null, deployment: null, since: null },
    healthySeconds: null,
    state: 'fetching',
    ...{
      exitCode: null,
      exitMeaning: null,
      reason: null,
      message: null,
      log: null,
      tenders: undefined,
    },
    agent: undefined,
  }
  await reports.store(host, 'www', report)
  statements.length = 0
  await reports.store(host, 'www', { ...report, sequence: 11, state: 'checking' })
  await reports.store(host, 'www', {
    ...{ ...report, sequence: 12, state: 'healthy' },
    kernel: KERNEL as Digest,
  })
  expect(statements).toHaveLength(6)
})
