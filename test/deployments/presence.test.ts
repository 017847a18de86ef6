import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { ImageKernelsCache } from '../../src/deployments/image-kernels.ts'
import { Presence } from '../../src/deployments/presence.ts'
import { Reports } from '../../src/deployments/reports.ts'
import { pruneUnitLogs } from '../../src/deployments/unit-logs.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  desiredUnits,
  grant,
  insertDeployment,
  KERNEL,
  OTHER,
  report,
  targetOf,
} from './reporting.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry
let db: Database

beforeAll(async () => {
  registry = await startRegistry()
  db = new Database({ connection: registry.databaseUrl, connectionsMax: 2, onIdleError() {} })
})
afterAll(async () => {
  await db.close()
  await registry.close()
})

/** The work of a replica that runs for long enough to call hosts lost. */
function startPresence(): Presence {
  const presence = new Presence({
    ...{ db, graceSeconds: 0, onCommitted() {} },
    onError: (error) => {
      throw error
    },
  })
  presence.start()
  return presence
}

async function presenceOf({ id }: TestHost) {
  const [row] = await rowsOf<{ isLost: boolean; age: number }>(
    registry,
    `select lost_at is not null as "isLost", extract(epoch from now() - seen_at)::integer as age
       from hosts where id = $1`,
    [id],
  )
  return row
}

async function eventsOf({ name }: TestHost): Promise<string[]> {
  const rows = await rowsOf<{ type: string }>(
    registry,
    `select type from (
       select type, data as body, occurred_at from event_outbox
        union all
       select type, body, occurred_at from events
     ) e
      where type in ('host.lost', 'host.returned') and body like $1
      order by occurred_at`,
    [`%"${name}"%`],
  )
  return rows.map(({ type }) => type)
}

/** Moves the last request of a host into the past. */
async function silence({ id }: TestHost, seconds: number): Promise<void> {
  await rowsOf(
    registry,
    'update hosts set seen_at = now() - make_interval(secs => $2) where id = $1',
    [id, seconds],
  )
}

describe('a host', () => {
  it('is online after any request, which is written later and seldom', async () => {
    const host = await enrolHost(registry)
    await ask(host)
    const seen = async () => (await presenceOf(host))?.age ?? null
    await expect.poll(seen).not.toBeNull()
    await silence(host, 30)
    await ask(host)
    const presence = startPresence()
    presence.seen(host.id)
    await presence.stop()
    expect(await seen()).toBeGreaterThanOrEqual(30)
    await silence(host, 70)
    const later = startPresence()
    later.seen(host.id)
    await later.stop()
    expect(await seen()).toBeLessThan(10)
  }, 15_000)

  it('is lost after three minutes, and back with its next request', async () => {
    const host = await enrolHost(registry)
    const quiet = await enrolHost(registry)
    await silence(host, 190)
    await silence(quiet, 170)
    const presence = startPresence()
    await expect.poll(async () => (await presenceOf(host))?.isLost).toBe(true)
    expect(await eventsOf(host)).toEqual(['host.lost'])
    expect((await presenceOf(quiet))?.isLost).toBe(false)
    presence.seen(host.id)
    await presence.stop()
    expect(await presenceOf(host)).toMatchObject({ isLost: false })
    expect(await eventsOf(host)).toEqual(['host.lost', 'host.returned'])
    expect(await eventsOf(quiet)).toEqual([])
  })

  it('is not lost because the registry was down', async () => {
    const host = await enrolHost(registry)
    await silence(host, 600)
    const presence = new Presence({
      ...{ db, graceSeconds: 60, onCommitted() {} },
      onError: (error) => {
        throw error
      },
    })
    presence.start()
    await presence.stop()
    expect((await presenceOf(host))?.isLost).toBe(false)
  })
})

describe('a unit that registered while its tag moved', () => {
  const reports = () => new Reports(db, new ImageKernelsCache(db), () => {})
  const join = () => reports().joinMissed(new AbortController().signal)

  it('gets the digest of the tag', async () => {
    const repository = newRepository()
    const next = await pushBuild(registry, repository, 'next', OTHER)
    await pushBuild(registry, repository, 'live')
    const host = await enrolHost(registry)
    await report(host, { follows: { repository, tag: 'live' } })
    await rowsOf(
      registry,
      `update tags set digest = $2
        where name = 'live' and repository_id = (select id from repositories where name = $1)`,
      [repository, next],
    )
    await join()
    expect(await desiredUnits(host)).toMatchObject([{ digest: next }])
    expect(await join()).toBe(0)
  })

  it('joins the deployment of the tag', async () => {
    const repository = newRepository()
    const digest = await pushBuild(registry, repository, 'live')
    const host = await enrolHost(registry)
    await report(host, { follows: { repository, tag: 'live' } })
    await rowsOf(registry, 'update units set granted_digest = null where host_id = $1', [host.id])
    const deployment = await insertDeployment(registry, repository, digest)
    await join()
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'waiting' })
    expect(await join()).toBe(0)
  })

  it.each([
    ['a retry on another host', 'rolling', 'retry'],
    ['a retry on another host that succeeded', 'succeeded', 'retry'],
    ['a deployment that survived the failure', 'succeeded', 'push'],
  ])('keeps what it runs after its failure, beside %s', async (_, state, kind) => {
    const repository = newRepository()
    const digest = await pushBuild(registry, repository, 'live')
    const host = await enrolHost(registry)
    await report(host, { follows: { repository, tag: 'live' } })
    const first = await insertDeployment(registry, repository, digest)
    await grant(registry, host, first, KERNEL)
    await report(host, { follows: { repository, tag: 'live' }, state: 'failed', deployment: first })
    const end = kind === 'retry' ? 'failed' : state
    const ended = 'update deployments set state = $2, finished_at = now() where id = $1'
    await rowsOf(registry, ended, [first, end])
    if (kind === 'retry') await insertDeployment(registry, repository, digest, state)
    expect(await join()).toBe(0)
    expect(await desiredUnits(host)).toMatchObject([{ digest: null }])
  })

  it('keeps what it runs when its deployment halted before its turn', async () => {
    const repository = newRepository()
    const digest = await pushBuild(registry, repository, 'live')
    const host = await enrolHost(registry)
    await report(host, { follows: { repository, tag: 'live' } })
    await rowsOf(registry, 'update units set granted_digest = null where host_id = $1', [host.id])
    const first = await insertDeployment(registry, repository, digest)
    await join()
    await rowsOf(registry, `update targets set state = 'skipped' where deployment_id = $1`, [first])
    const ended = `update deployments set state = 'halted', finished_at = now() where id = $1`
    await rowsOf(registry, ended, [first])
    await insertDeployment(registry, repository, digest, 'succeeded')
    expect(await join()).toBe(0)
  })
})

it('lines of kernels are kept as long as events', async () => {
  const host = await enrolHost(registry)
  await report(host, { follows: { repository: 'a/b', tag: 'live' }, log: { text: 'old\n' } })
  await rowsOf(registry, `update unit_logs set at = now() - interval '31 days'`)
  await report(host, { follows: { repository: 'a/b', tag: 'live' }, log: { text: 'new\n' } })
  await pruneUnitLogs(db, 30, new AbortController().signal)
  expect(await rowsOf(registry, 'select text from unit_logs')).toEqual([{ text: 'new\n' }])
})
