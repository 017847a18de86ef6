import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { addUnitLog } from '../../src/db/deployments/unit-logs.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { addDeployment, addTarget, endDeployment } from './deployment-rows.ts'
import { rowsOf } from './rows.ts'

const PARTS = 350
/** All parts together are more than a stream keeps for a client that does not read. */
const PART_BYTES = 4096

type Block = { id: string; event: string; data: { host?: string; text?: string; state?: string } }

let registry: TestRegistry
let made = 0

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** A deployment with two targets, whose kernels printed nothing yet. */
async function deployTwo() {
  const repository = newRepository()
  await pushImage(registry, repository, 'live')
  const id = await addDeployment(registry, repository)
  made += 1
  const hosts = [`one-${made}`, `two-${made}`]
  for (const host of hosts) await addTarget(registry, id, host, 'checking')
  return { id, hosts }
}

/** Each part begins with its number. */
async function print(id: string, hosts: string[], from: number, to: number): Promise<void> {
  await rowsOf(
    registry,
    `with printed as (
       insert into unit_logs (host_id, unit, deployment_id, text)
       select h.id, 'www', $1::uuid, rpad(part || ' ', $5, '.')
         from generate_series($3::integer, $4::integer) as part
         join hosts h on h.name = ($2::text[])[1 + part % 2]
        order by part
     )
     select pg_notify('rookery_deployments', 'deployment:' || $1::text)`,
    [id, hosts, from, to, PART_BYTES],
  )
}

const numberOf = ({ data }: Block) => Number.parseInt(data.text ?? '', 10)
const logsOf = (blocks: Block[]) => blocks.filter(({ event }) => event === 'log').map(numberOf)
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

/** Reads a stream to its end, or until `isEnough`, and then leaves. */
async function read(
  id: string,
  lastId: string | undefined,
  isEnough: (blocks: Block[]) => boolean = () => false,
): Promise<Block[]> {
  const leaving = new AbortController()
  const answer = await registry.request(`/api/v1/deployments/${id}`, {
    headers: {
      accept: 'text/event-stream',
      ...(lastId === undefined ? {} : { 'last-event-id': lastId }),
    },
    signal: leaving.signal,
  })
  expect(answer.status).toBe(200)
  const blocks: Block[] = []
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of answer.body ?? []) {
    const parts = (text + decoder.decode(chunk, { stream: true })).split('\n\n')
    text = parts.pop() ?? ''
    for (const part of parts) {
      const found = /^id: (.*)\nevent: (.*)\ndata: (.*)$/.exec(part)
      if (found === null) continue
      const [, one = '', event = '', data = ''] = found
      blocks.push({ id: one, event, data: JSON.parse(data) })
      if (isEnough(blocks)) break
    }
    if (isEnough(blocks)) break
  }
  leaving.abort()
  return blocks
}

it('all parts of the logs of two targets arrive once and in order, also over a second connection', async () => {
  const { id, hosts } = await deployTwo()
  await print(id, hosts, 1, 200)
  const first = await read(id, undefined, (blocks) => logsOf(blocks).length === 130)
  expect(logsOf(first)).toEqual(upTo(130))
  expect(new Set(first.flatMap(({ data }) => data.host ?? []))).toEqual(new Set(hosts))
  const rest = read(id, first.at(-1)?.id)
  await print(id, hosts, 201, PARTS)
  await endDeployment(registry, id, 'halted')
  const second = await rest
  expect([...logsOf(first), ...logsOf(second)]).toEqual(upTo(PARTS))
  expect(second.at(-1)).toMatchObject({ event: 'deployment', data: { state: 'halted' } })
})

it('of a deployment that has ended, too', async () => {
  const { id, hosts } = await deployTwo()
  await print(id, hosts, 1, PARTS)
  await endDeployment(registry, id, 'failed')
  const whole = await read(id, undefined)
  expect(logsOf(whole)).toEqual(upTo(PARTS))
  expect(whole.filter(({ event }) => event === 'deployment')).toHaveLength(1)
  const first = await read(id, undefined, (blocks) => logsOf(blocks).length === 170)
  const second = await read(id, first.at(-1)?.id)
  expect([...logsOf(first), ...logsOf(second)]).toEqual(upTo(PARTS))
  const seen = { accept: 'text/event-stream', 'last-event-id': second.at(-1)?.id ?? '' }
  const path = `/api/v1/deployments/${id}`
  expect((await registry.request(path, { headers: seen })).status).toBe(204)
  // A host may still say more.
  await print(id, hosts, PARTS + 1, PARTS + 1)
  expect(logsOf(await read(id, second.at(-1)?.id))).toEqual([PARTS + 1])
})

it('a part whose report is stored more slowly than the next one is not missing', async () => {
  const { id, hosts } = await deployTwo()
  const [slow, fast] = await rowsOf<{ id: number }>(
    registry,
    'select id::integer from hosts where name = any($1) order by name',
    [hosts],
  )
  const db = new Database({ connection: registry.databaseUrl, connectionsMax: 2, onIdleError() {} })
  const part = (host: { id: number } | undefined, text: string) => ({
    ...{ hostId: host?.id ?? 0, unit: 'www', deployment: id, kernel: null, text },
  })
  let store = () => {}
  const stored = new Promise<void>((resolve) => {
    store = resolve
  })
  let begun = () => {}
  const beginning = new Promise<void>((resolve) => {
    begun = resolve
  })
  const storing = db.transaction(async (tx) => {
    await addUnitLog(tx, part(slow, '1 slow'))
    begun()
    await stored
  })
  await beginning
  await db.transaction((tx) => addUnitLog(tx, part(fast, '2 fast')))
  const blocks = read(id, undefined)
  await rowsOf(registry, "select pg_notify('rookery_deployments', $1)", [`deployment:${id}`])
  await expect
    .poll(() =>
      rowsOf(registry, "select 1 from pg_locks where locktype = 'advisory' and not granted"),
    )
    .toHaveLength(1)
  store()
  await storing
  await endDeployment(registry, id, 'failed')
  expect(logsOf(await blocks)).toEqual([1, 2])
  await db.close()
})

it.each(['nonsense', `${'0'.repeat(32)}.x`, '', 'x'.repeat(5_000)])(
  'an id that no stream had begins at the start',
  async (lastId) => {
    const { id, hosts } = await deployTwo()
    await print(id, hosts, 1, 3)
    await endDeployment(registry, id, 'failed')
    expect(logsOf(await read(id, lastId))).toEqual(upTo(3))
  },
)
