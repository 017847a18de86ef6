import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formOf } from '../images/image-fixtures.ts'
import { createTestDatabase } from '../support/database.ts'
import { digestOf } from '../support/digest.ts'
import { registryAt } from '../support/process-registry.ts'
import { pushBlob, pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'
import { worstApiInputs } from './worst-api-inputs.ts'
import { heavyFiles } from './worst-files.ts'
import {
  HEAVY,
  input,
  LONG_QUERY,
  MANY,
  type WorstInput,
  type WorstInputs,
} from './worst-inputs.ts'
import { worstPageInputs } from './worst-page-inputs.ts'
import { worstV2Inputs } from './worst-v2-inputs.ts'

/**
 * A block takes less CPU time than so many runs of `control`, which takes about 10 ms: on an idle machine each block is
 * below 5 of them, and without the bounds and the other processes some took hundreds. A busy machine slows both down alike.
 */
const BLOCK_CONTROLS_MAX = 15
const ROUNDS_MAX = 5
const CONTROL_NUMBERS = 100_000

const database = await createTestDatabase()
const folder = await mkdtemp(join(tmpdir(), 'rookery-loop-'))
const settings = {
  ROOKERY_DATA_DIR: folder,
  ROOKERY_DATABASE_URL: database.url,
  ROOKERY_ADMIN_PASSWORD: randomBytes(12).toString('base64url'),
  ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  ROOKERY_PUBLIC_URL: 'http://registry.example.org',
  ROOKERY_DRAIN_SECONDS: '2',
}
let server: ServerProcess
let registry: TestRegistry
let inputs: WorstInputs

const keyOf = ({ method, path }: { method: string; path: string }) => `${method} ${path}`

beforeAll(async () => {
  server = await startProcess(settings)
  registry = registryAt(server.url, folder, settings)
  await pushImage(registry, MANY, 'live')
  const layer = await pushBlob(registry, MANY)
  await pushBlob(registry, MANY, Buffer.from('{}'))
  const v2Inputs = worstV2Inputs(registry, layer)
  for (const tag of ['a', 'b']) {
    const path = `/api/v1/repositories/${HEAVY}/images?tag=${tag}`
    const body = formOf('hello-key-1', heavyFiles())
    expect((await registry.request(path, { method: 'POST', body })).status).toBe(201)
  }
  const largest = v2Inputs['PUT /v2/*repository/manifests/:reference']?.[0]
  const answer = await largest?.send()
  expect(`${answer?.status} ${await answer?.text()}`).toMatch(/^201/)
  const digest = answer?.headers.get('docker-content-digest')
  await registry.request(`/api/v1/webhooks`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'all', url: 'http://127.0.0.1:8443/', repositories: ['none/*'] }),
  })
  const page = (await (await registry.request('/api/v1/events?n=0')).json()) as { cursor: string }
  await fill(digest ?? '')
  inputs = {
    ...v2Inputs,
    ...worstApiInputs(registry, page.cursor),
    ...worstPageInputs(registry),
  }
  // The first run compiles and makes room.
  await control()
}, 120_000)

afterAll(async () => {
  await stopProcess(server, 'SIGKILL')
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

/** Adds as many rows as a tenant can make. */
async function fill(largest: string): Promise<void> {
  const client = new pg.Client(database.url)
  await client.connect()
  await client.query(
    `insert into tags (repository_id, name, digest)
     select repository_id, n, digest
       from tags, (select 'l' || n || repeat('a', 100) as n from generate_series(1, 9000) as n
                   union all select 'largest') as names
      where name = 'live'`,
  )
  await client.query(`update tags set digest = $1 where name = 'largest'`, [largest])
  await client.query(
    `insert into tag_history (repository_id, tag, digest, actor, reason)
     select repository_id, name, digest, repeat('a', 200), 'push'
       from tags, generate_series(1, 2000)
      where name = 'live'`,
  )
  await client.query(
    `insert into manifests (repository_id, digest, media_type, subject, annotations, bytes, pushed_by)
     select repository_id, 'sha256:' || lpad(to_hex(n), 64, '0'), media_type, $1, annotations, '', 'a'
       from manifests, generate_series(1, 500) as n
      where digest = $2`,
    [digestOf('subject'), largest],
  )
  await client.query(
    `with added as (
       insert into packages (ecosystem, name, version)
       select 'opam', 'many', repeat('1.', 20) || n from generate_series(1, 10000) as n
       returning id
     )
     insert into layer_packages (package_id, blob_id)
     select added.id, il.blob_id
       from added, (select blob_id from image_layers where role = 'opam-switch' limit 1) as il`,
  )
  await client.query(
    `with added as (
       insert into sources (digest, url, repository, checksums)
       select 'many' || n, 'https://github.com/a/many/archive/' || repeat('/archive', 230) || n, 'github.com/a/many', '{}'
         from generate_series(1, 10000) as n
       returning id
     )
     insert into layer_sources (source_id, blob_id, ordinal, directory)
     select added.id, il.blob_id, 20000 + added.id, 'd' || added.id
       from added, (select blob_id from image_layers where role = 'opam-switch' limit 1) as il`,
  )
  await client.query(
    `insert into repositories (name, visibility, configured)
     select 'heavy/r' || n || repeat('a', 200), 'public', true from generate_series(1, 3000) as n`,
  )
  await client.query(
    `insert into audit (action, decision, actor, detail)
     select 'push', 'allowed', repeat('a', 200), repeat('"ä', 500) from generate_series(1, 2000)`,
  )
  await client.query(
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select 100000 + n, gen_random_uuid(), 'image.tag.updated', t.repository_id, repeat('a', 120) || n, now(),
            '{"data":"' || repeat('x', 19000) || '"}'
       from tags t, generate_series(1, 3000) as n
      where t.name = 'live'`,
  )
  await client.query('update feed set position = 103000')
  await client.end()
}

/** Returns the longest delay of the server's event loop since the last call, in milliseconds. */
async function longestDelay(): Promise<number> {
  const answer = await registry.request('/metrics')
  const text = await answer.text()
  return Number(/^nodejs_eventloop_lag_max_seconds (\S+)$/m.exec(text)?.[1]) * 1000
}

/** Returns the CPU time of a process' main thread in milliseconds. NaN where the system does not say. */
async function mainThreadTime(pid: number | undefined): Promise<number> {
  const text = await readFile(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').catch(() => undefined)
  const nanoseconds = Number(text?.split(' ')[0])
  return nanoseconds > 0 ? nanoseconds / 1e6 : Number.NaN
}

const CONTROL = JSON.stringify(Array.from({ length: CONTROL_NUMBERS }, (_, n) => `${n}`))

/** Returns the CPU time of a computation that is always the same, in milliseconds. */
async function control(): Promise<number> {
  const before = await mainThreadTime(process.pid)
  const started = performance.now()
  JSON.parse(CONTROL)
  const elapsed = performance.now() - started
  const computed = (await mainThreadTime(process.pid)) - before
  return Number.isNaN(computed) ? elapsed : Math.min(elapsed, computed)
}

/**
 * Returns how long the event loop stood still at most, in runs of `control`, in the best of some rounds. It computed at
 * least for as long: other processes of a busy machine do not count.
 */
async function longestBlock({ what, send, statuses }: WorstInput): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS_MAX && best > BLOCK_CONTROLS_MAX; round += 1) {
    const unit = await control()
    await longestDelay()
    const before = await mainThreadTime(server.child.pid)
    const answer = await send()
    const body = Buffer.from(await answer.arrayBuffer())
    const computed = (await mainThreadTime(server.child.pid)) - before
    const delay = await longestDelay()
    const status = statuses.includes(answer.status)
      ? 'accepted'
      : `${answer.status} ${body.subarray(0, 300)}`
    expect(status, what).toBe('accepted')
    const block = Number.isNaN(computed) ? delay : Math.min(delay, computed)
    best = Math.min(best, block / Math.max(unit, await control()))
  }
  return best
}

it('every route has a worst input', () => {
  expect(Object.keys(inputs).toSorted()).toEqual(ROUTES.map(keyOf).toSorted())
})

describe('no request stops the event loop for others:', () => {
  it.each([...new Set(ROUTES.map(keyOf))])('%s', async (key) => {
    for (const worst of inputs[key] ?? []) {
      const block = await longestBlock(worst)
      expect(block, worst.what).toBeLessThan(BLOCK_CONTROLS_MAX)
    }
  })

  it('unknown parameters of each route that refuses them', async () => {
    for (const { method, path, query } of ROUTES) {
      if (query === 'any') continue
      const target = `${pathOfRoute(path, MANY)}?${LONG_QUERY}`
      const long = input(`${method} ${path}`, () => registry.request(target, { method }), 400)
      expect(await longestBlock(long), long.what).toBeLessThan(BLOCK_CONTROLS_MAX)
    }
  })
})
