import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Deployment, deploymentPath, followDeployment } from '../../src/client/deployments.ts'
import { RegistryApi } from '../../src/client/registry-api.ts'
import { randomFrom } from '../process-faults/acknowledged-pushes.ts'
import { KillableServer, PASSWORD } from '../process-faults/killable-server.ts'
import { freePorts } from '../support/free-ports.ts'
import { registryAt } from '../support/process-registry.ts'
import type { TestRegistry } from '../support/registry.ts'
import type { SimulatedHost } from '../support/simulated-hosts.ts'
import { RolloutSampler } from './rollout-sampler.ts'
import { Site } from './site.ts'

const ROUNDS = Number(process.env.CHAOS_ROUNDS ?? 2)
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000)
const HOSTS = 6
const [CANARY, BATCH] = [1, 2]
const FAULTS_MAX = 3
const BETWEEN_FAULTS_MILLISECONDS_MAX = 1_500
const DOWN_MILLISECONDS_MAX = 500
const STEP_MILLISECONDS_MAX = 120
/** The share of kernels that fail on a host. */
const FAILURES = 0.08
const END_SECONDS_MAX = 60
const START_MILLISECONDS_MAX = 30_000

let server: KillableServer
let registry: TestRegistry
let site: Site
let random: () => number

beforeAll(async () => {
  random = randomFrom(SEED)
  const [port] = await freePorts(1)
  server = await KillableServer.create('embedded', { ROOKERY_LISTEN: `127.0.0.1:${port}` })
  await server.start()
  registry = registryAt(server.url, server.data, { ROOKERY_ADMIN_PASSWORD: PASSWORD })
  site = await Site.create('chaos/www', () => registry)
  const set = ['rollout', 'set', site.host, 'chaos', '--repository', site.repository]
  const rules = ['--canary', String(CANARY), '--batch', String(BATCH), '--settle', '1s']
  const limits = ['--deadline', '15s', '--max-failures', '1']
  const ran = await site.rookery([...set, ...rules, ...limits])
  expect(ran, ran.stderr).toMatchObject({ status: 0 })
  for (let index = 0; index < HOSTS; index += 1) {
    await site.addHost(`chaos-${index}`, {
      fetches: true,
      stepMilliseconds: () => Math.ceil(random() * STEP_MILLISECONDS_MAX),
      conclude: () => (random() < FAILURES ? 'failed' : 'healthy'),
    })
  }
})

afterAll(async () => {
  await site.remove()
  await server.dispose()
})

/** Pushes a kernel in one request, again while Postgres starts, and returns its deployment. */
async function push(): Promise<string> {
  const { path } = await site.newKernel()
  const form = new FormData()
  form.append('kernel', new Blob([new Uint8Array(await readFile(path))]), 'www.hvt')
  const images = `/api/v1/repositories/${site.repository}/images?tag=live`
  const pushOnce = async () =>
    (await registry.request(images, { method: 'POST', body: form })).status
  await expect.poll(pushOnce, { timeout: START_MILLISECONDS_MAX }).toBe(201)
  const newest = `/api/v1/repositories/${site.repository}/deployments?tag=live&n=1`
  const find = async () => {
    const answer = await registry.request(newest)
    const body = (await answer.json()) as { deployments?: { id: string }[] }
    return body.deployments?.[0]?.id
  }
  let id: string | undefined
  await expect
    .poll(async () => (id = await find()), { timeout: START_MILLISECONDS_MAX })
    .toBeDefined()
  return id ?? ''
}

/** Follows a deployment as `rookery deploy watch` does, and returns its last state. */
async function watch(id: string, signal: AbortSignal): Promise<Deployment> {
  const { host } = new URL(registry.url)
  const login = { kind: 'password' as const, username: 'admin', password: PASSWORD }
  const api = new RegistryApi({ host, plainHttp: true }, { login })
  const options = { signal, onOutage: () => {}, onReturn: () => {} }
  try {
    for await (const deployment of followDeployment(api, deploymentPath(id), options)) {
      if (!['rolling', 'paused'].includes(deployment.state)) return deployment
    }
  } finally {
    await api.close()
  }
  throw new Error('a deployment was followed without an end')
}

const below = (limit: number) => Math.floor(random() * limit)

/** Kills the server, Postgres, or both. A server that lives starts its Postgres again. */
async function killServices(killed: 'server' | 'Postgres' | 'server and Postgres'): Promise<void> {
  if (killed !== 'server') process.kill(await server.postmaster(), 'SIGKILL')
  if (killed === 'Postgres') return
  server.signal('SIGKILL')
  await server.ended()
  await delay(below(DOWN_MILLISECONDS_MAX))
  await server.start()
}

async function killHost(host: SimulatedHost): Promise<void> {
  await host.kill()
  await delay(below(DOWN_MILLISECONDS_MAX))
  await host.start()
}

async function fault(): Promise<string> {
  const killed = (['server', 'Postgres', 'server and Postgres'] as const)[below(5)]
  if (killed !== undefined) {
    await killServices(killed)
    return killed
  }
  const hosts = site.hosts.filter(() => random() < 0.4)
  await Promise.all(hosts.map(killHost))
  return `${hosts.length} hosts`
}

/** Opens a connection as soon as Postgres has started again. */
async function openDatabase(): Promise<pg.Client> {
  let client: pg.Client | undefined
  const open = async () => {
    client ??= await server.database().catch(() => undefined)
    return client !== undefined
  }
  await expect.poll(open, { timeout: START_MILLISECONDS_MAX }).toBe(true)
  if (client === undefined) throw new Error('there is no connection')
  client.on('error', () => {})
  return client
}

/** Waits until every deployment has ended, and the registry knows what every host runs. */
async function untilCalm(db: pg.Client): Promise<void> {
  const state = async () => {
    const { rows: open } = await db.query(
      `select d.number, d.state, t.state as target, count(*)::int
         from deployments d
         left join targets t on t.deployment_id = d.id
        where d.finished_at is null
        group by d.number, d.state, t.state`,
    )
    const { rows: units } = await db.query<{ name: string; kernel: string | null; state: string }>(
      `select h.name, u.kernel, u.state
         from units u
         join hosts h on h.id = u.host_id`,
    )
    const runs = new Map(site.hosts.map((host) => [host.name, host.kernelOf('www')]))
    return { open, wrong: units.filter(({ name, kernel }) => runs.get(name) !== kernel) }
  }
  await expect
    .poll(state, { timeout: END_SECONDS_MAX * 1000, interval: 100 })
    .toEqual({ open: [], wrong: [] })
}

type TargetEnd = { host: string; number: number; kernel: string; state: string }

/** Asserts that everything that the registry says of a host has happened there. */
async function expectTruth(db: pg.Client): Promise<void> {
  const happened = new Set(
    site.hosts.flatMap((host) =>
      host.happened.map((one) => `${one.host} ${one.kernel} ${one.state}`),
    ),
  )
  const { rows: targets } = await db.query<TargetEnd>(
    `select h.name as host, d.number, t.kernel, t.state
       from targets t
       join hosts h on h.id = t.host_id
       join deployments d on d.id = t.deployment_id
      where t.state in ('healthy', 'failed', 'rolled-back')`,
  )
  const untrue = targets.filter(({ host, kernel, state }) => {
    const ended = state === 'healthy' ? 'healthy' : 'failed'
    return !happened.has(`${host} ${kernel} ${ended}`)
  })
  expect(untrue).toEqual([])
  const { rows: runs } = await db.query<{ host: string; kernel: string }>(
    `select h.name as host, r.kernel
       from runs r
       join hosts h on h.id = r.host_id`,
  )
  expect(runs.length).toBeGreaterThan(0)
  expect(runs.filter(({ host, kernel }) => !happened.has(`${host} ${kernel} started`))).toEqual([])
  for (const { refusals } of site.hosts) expect(refusals).toEqual([])
}

/** Counts, at the grant of each unit, the others of its deployment that were granted and not yet settled or ended. */
async function expectBatches(db: pg.Client): Promise<void> {
  const { rows } = await db.query<{ number: number; occupied: number }>(
    `select d.number, max(o.occupied)::int as occupied
       from deployments d
       join targets a on a.deployment_id = d.id
      cross join lateral (
        select count(*) as occupied
          from targets b
         where b.deployment_id = a.deployment_id
           and b.granted_at <= a.granted_at
           and coalesce(b.settled_at, b.ended_at, 'infinity') > a.granted_at
      ) o
      where a.granted_at is not null
      group by d.number
     having max(o.occupied) > $1`,
    [BATCH],
  )
  expect(rows).toEqual([])
}

it(
  `rollouts survive kill -9 of everything (CHAOS_SEED=${SEED}, ${ROUNDS} rounds)`,
  async () => {
    const sampler = new RolloutSampler(() => server.database(), CANARY, BATCH)
    const report: string[] = []
    try {
      for (let round = 0; round < ROUNDS; round += 1) {
        const faults: string[] = []
        const ids = [await push()]
        const ending = new AbortController()
        const watching = [watch(ids[0] ?? '', ending.signal)]
        const count = 1 + below(FAULTS_MAX)
        for (let index = 0; index < count; index += 1) {
          await delay(below(BETWEEN_FAULTS_MILLISECONDS_MAX))
          faults.push(await fault())
          if (index > 0 || random() < 0.7) continue
          ids.push(await push())
          watching.push(watch(ids.at(-1) ?? '', ending.signal))
          faults.push('another push')
        }
        const db = await openDatabase()
        try {
          await untilCalm(db)
          await expectTruth(db)
          await expectBatches(db)
          const late = setTimeout(() => ending.abort(new Error('no end was seen')), 10_000)
          const seen = await Promise.all(watching)
          clearTimeout(late)
          const { rows } = await db.query<{ id: string; state: string }>(
            'select id, state from deployments where id = any($1)',
            [ids],
          )
          const states = new Map(rows.map(({ id, state }) => [id, state]))
          expect(seen.map(({ state }) => state)).toEqual(ids.map((id) => states.get(id)))
          report.push(`${faults.join(', ')}: ${seen.map(({ state }) => state).join(', ')}`)
        } finally {
          ending.abort()
          await db.end()
        }
        const errors = server.errors.split('\n').filter((line) => line.includes('"level":"error"'))
        expect(errors.filter((line) => !line.includes('cannot reach its database'))).toEqual([])
      }
    } finally {
      await sampler.stop()
    }
    process.stdout.write(`${report.join('\n')}\n${sampler.samples} samples of the rollouts\n`)
    expect(sampler.samples).toBeGreaterThan(ROUNDS * 50)
    expect(sampler.exceeded).toEqual([])
  },
  60_000 + ROUNDS * (END_SECONDS_MAX * 1000),
)
