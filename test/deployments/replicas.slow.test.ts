import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { listenForNotifications } from '../../src/db/events/notifications.ts'
import { ProcessLock } from '../../src/db/process-lock.ts'
import { DeploymentController } from '../../src/deployments/controller.ts'
import { DeploymentSignals } from '../../src/deployments/signals.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { hostReports, newest, pushKernel, putRollout } from './rolling.ts'
import { followTag, rowsOf } from './rows.ts'

const HOSTS = 40
const BATCH = 3

let registry: TestRegistry
const replicas: { stop(): Promise<void> }[] = []
const failures: unknown[] = []

beforeAll(async () => {
  // Has a controller, too.
  registry = await startRegistry()
  for (let at = 0; at < 3; at += 1) replicas.push(await startReplica())
})
afterAll(async () => {
  for (const replica of replicas) await replica.stop()
  await registry.close()
})

/** Starts what another process has: connections, notifications and a controller. */
async function startReplica() {
  const db = new Database({
    ...{ connection: registry.databaseUrl, connectionsMax: 4, onIdleError: () => {} },
  })
  const signals = new DeploymentSignals()
  const controller = new DeploymentController({
    ...{ db, signals, onCommitted: () => {}, rollBack: async () => {} },
    onError: (error) => failures.push(error),
  }).start()
  const listener = listenForNotifications(db, new ProcessLock(), {
    onEvents: () => {},
    onDeployments: (notice) => signals.emit(notice),
    onError: () => {},
  })
  return {
    async stop() {
      await controller.stop()
      await listener.stop()
      await db.close()
    },
  }
}

/** Refuses a grant beyond the batch in the database itself, as its transaction sees it. */
async function guardBatch(): Promise<void> {
  await rowsOf(
    registry,
    `create or replace function assert_batch() returns trigger language plpgsql as $$
     begin
       if (select count(*)
             from targets
            where deployment_id = new.deployment_id
              and (state in ('granted', 'fetching', 'starting', 'checking')
                   or (state = 'healthy' and settled_at is null))) > ${BATCH} then
         raise exception 'more units in flight than the batch';
       end if;
       return null;
     end $$`,
  )
  await rowsOf(
    registry,
    `create constraint trigger batch_kept after update on targets deferrable initially deferred
        for each row when (new.state = 'granted') execute function assert_batch()`,
  )
}

/** The units in flight, as another transaction sees them. */
async function inFlight(repository: string): Promise<number> {
  const [row] = await rowsOf<{ count: number }>(
    registry,
    `select count(*)::integer as count
       from targets t
       join deployments d on d.id = t.deployment_id
       join repositories r on r.id = d.repository_id
      where r.name = $1
        and t.state in ('granted', 'fetching', 'starting', 'checking')`,
    [repository],
  )
  return row?.count ?? 0
}

/** Lets every granted unit report its way to healthy, all of them at the same time. */
async function reportUntilDone(hosts: readonly string[]): Promise<void> {
  await Promise.all(
    hosts.map(async (host, at) => {
      await waitUntil(async () => (await stateOf(host)) !== 'waiting')
      await hostReports(registry, host, 'starting')
      await delay(at % 7)
      await hostReports(registry, host, 'healthy')
    }),
  )
}

async function stateOf(host: string): Promise<string> {
  const [row] = await rowsOf<{ state: string }>(
    registry,
    `select t.state
       from targets t
       join hosts h on h.id = t.host_id
      where h.name = $1`,
    [host],
  )
  // A pause between two looks: forty hosts share two processors with four controllers.
  if (row?.state === undefined || row.state === 'waiting') await delay(200)
  return row?.state ?? 'waiting'
}

describe('four controllers on one database', () => {
  it.each([
    ['and nothing fails', 0],
    ['and connections break in the middle of their transactions', 12],
  ])(
    'never exceed the batch, and finish, %s',
    async (_title, kills) => {
      const repository = `replicas/r${kills}`
      const hosts = Array.from({ length: HOSTS }, (_, at) => `h${at}-${kills}`)
      await followTag(
        registry,
        repository,
        'live',
        hosts.map((name) => ({ name })),
      )
      await putRollout(registry, repository, { canary: 1, batch: BATCH })
      await guardBatch().catch((error: Error) => expect(error.message).toContain('already exists'))
      const { digest } = await pushKernel(registry, repository)
      let most = 0
      let isDone = false
      const watch = (async () => {
        while (!isDone) {
          most = Math.max(most, await inFlight(repository))
          await delay(5)
        }
      })()
      const killing = (async () => {
        for (let count = 0; count < kills; count += 1) {
          await delay(150)
          await rowsOf(
            registry,
            `select pg_terminate_backend(pid)
             from pg_stat_activity
            where datname = current_database()
              and application_name = 'rookery'
              and xact_start is not null
              and pid <> pg_backend_pid()`,
          )
        }
      })()
      await reportUntilDone(hosts)
      await killing
      await waitUntil(async () => (await newest(registry, repository)).state === 'succeeded')
      isDone = true
      await watch
      const { targets } = await newest(registry, repository)
      expect(new Set(targets.map((line) => line.split(' ')[1]))).toEqual(new Set(['healthy']))
      expect(most).toBeLessThanOrEqual(BATCH)
      expect(most).toBeGreaterThan(1)
      const granted = await rowsOf<{ digest: string; count: number }>(
        registry,
        `select granted_digest as digest, count(*)::integer
         from units
        where repository = $1
        group by 1`,
        [repository],
      )
      expect(granted).toEqual([{ digest, count: HOSTS }])
      const exceeded = failures.filter((error) => String(error).includes('more units in flight'))
      expect(exceeded).toEqual([])
      if (kills === 0) expect(failures).toEqual([])
    },
    120_000,
  )
})

describe('many hosts at once', () => {
  it.each([
    [1_000, 3_000],
    [10_000, 15_000],
  ])(
    '%i units are granted within %i ms after the push',
    async (count, milliseconds) => {
      await rowsOf(registry, 'drop trigger if exists batch_kept on targets')
      const repository = `many/r${count}`
      await followTag(
        registry,
        repository,
        'live',
        Array.from({ length: count }, (_, at) => ({ name: `many-${count}-${at}` })),
      )
      await rowsOf(registry, 'analyze units, hosts, targets')
      await pushKernel(registry, repository)
      const pushed = performance.now()
      await waitUntil(async () => {
        const [row] = await rowsOf<{ isWhole: boolean }>(
          registry,
          `select count(*) = $2 as "isWhole"
           from units
          where repository = $1
            and granted_by is not null`,
          [repository, count],
        )
        return row?.isWhole === true
      })
      expect(performance.now() - pushed).toBeLessThan(milliseconds)
    },
    60_000,
  )
})
