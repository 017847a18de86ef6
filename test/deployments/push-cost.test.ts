import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { countPages, recordStatements, type Statement, statementsOf } from '../costs/statements.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { followTag, rowsOf } from './rows.ts'

/** Units of other tags: a probe of an index does not read them. */
const OTHERS = 20_000
/** Pages of a probe: the levels of an index, and the name of the repository. */
const PROBE_PAGES_MAX = 8

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  recordStatements()
})
afterAll(async () => {
  vi.restoreAllMocks()
  await registry.close()
})

/** The statements of the request that moves a tag, until it adds its event: what follows for a tag without hosts reads it. */
async function statementsOfMove(repository: string): Promise<Statement[]> {
  const sent = await statementsOfPush(repository)
  const last = sent.findIndex(({ text }) => text.includes('insert into event_outbox'))
  expect(last).toBeGreaterThan(0)
  return sent.slice(0, last + 1)
}

async function statementsOfPush(repository: string): Promise<Statement[]> {
  const image = await pushImage(registry, repository)
  return statementsOf(async () => {
    const answer = await registry.request(`/v2/${repository}/manifests/live`, {
      method: 'PUT',
      headers: { 'content-type': image.mediaType },
      body: image.body,
    })
    expect(answer.status).toBe(201)
  })
}

const isMove = ({ text }: Statement) => text.includes('"isFollowed"')
const onUnits = (statements: readonly Statement[]) =>
  statements.filter(({ text }) => /\b(?:units|deployments|targets|hosts)\b/.test(text))

it('a push of a tag that no host follows costs a probe of an index, in a statement that it sends anyway', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'live')
  const alone = await statementsOfMove(repository)
  expect(onUnits(alone)).toEqual(alone.filter(isMove))
  const [move] = alone.filter(isMove)
  if (move === undefined) throw new Error('the push moved no tag')

  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  const pages = await countPages(client, move)
  await followTag(registry, newRepository(), 'live', [{ name: 'crowd' }])
  await rowsOf(
    registry,
    `insert into units (host_id, name, repository, tag, state, boot_id, sequence, since)
     select h.id, 'unit-' || n, 'other/' || n % 1000, 'live', 'absent', 'boot', 1, now()
       from hosts h, generate_series(1, $1::integer) n
      where h.name = 'crowd'`,
    [OTHERS],
  )
  await client.query('analyze units')
  expect((await countPages(client, move)) - pages).toBeLessThanOrEqual(PROBE_PAGES_MAX)
  await client.end()

  const beside = await statementsOfMove(repository)
  expect(beside.map(({ text }) => text)).toEqual(alone.map(({ text }) => text))
  // The control: a host that follows the tag is seen.
  await followTag(registry, repository, 'live', [{ name: 'follower' }])
  const followed = await statementsOfPush(repository)
  expect(followed.some(({ text }) => text.includes('insert into deployments'))).toBe(true)
})
