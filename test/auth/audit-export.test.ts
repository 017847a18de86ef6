import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

type Entry = { readonly id: number; readonly actor: string | null }
type Page = { readonly entries: readonly Entry[]; readonly next: number }

let registry: TestRegistry
let writers: pg.Client[]

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

beforeEach(() => {
  writers = []
})

afterEach(async () => {
  await Promise.all(writers.map((writer) => writer.end()))
})

async function readAfter(after: number, query = ''): Promise<Page & { link: string | null }> {
  const answer = await registry.request(`/api/v1/audit?after=${after}${query}`)
  expect(answer.status).toBe(200)
  return { ...((await answer.json()) as Page), link: answer.headers.get('link') }
}

/** Reads pages until one has nothing more. */
async function readAll(after: number, query = ''): Promise<Page> {
  const entries: Entry[] = []
  let next = after
  for (let pages = 0; pages < 100; pages += 1) {
    const page = await readAfter(next, query)
    entries.push(...page.entries)
    next = page.next
    if (page.link === null) return { entries, next }
    expect(page.link).toContain(`after=${next}`)
  }
  throw new Error('the export does not end')
}

async function openWriter(): Promise<pg.Client> {
  const writer = new pg.Client(registry.databaseUrl)
  await writer.connect()
  writers.push(writer)
  return writer
}

/** Begins a transaction with an entry. */
async function beginEntry(actor: string): Promise<pg.Client> {
  const writer = await openWriter()
  await writer.query('begin')
  await writer.query(`insert into audit (action, decision, actor) values ('push', 'allowed', $1)`, [
    actor,
  ])
  return writer
}

const actorsOf = ({ entries }: Page) => entries.map(({ actor }) => actor)

it('is oldest first, in pages, and continues after the last id', async () => {
  const { next: start } = await readAll(0)
  for (const actor of ['a', 'b', 'c', 'd', 'e']) await (await beginEntry(actor)).query('commit')
  const all = await readAll(start, '&n=2')
  expect(actorsOf(all)).toEqual(['a', 'b', 'c', 'd', 'e'])
  expect(all.next).toBe(all.entries.at(-1)?.id)
  expect(await readAfter(all.next)).toEqual({ entries: [], next: all.next, link: null })
  expect(actorsOf(await readAll(start, '&actor=d&n=1'))).toEqual(['d'])
  expect(actorsOf(await readAll(start, '&actor=nobody'))).toEqual([])
})

it('has each entry once, although a lower id is committed later', async () => {
  const { next: start } = await readAll(0)
  const early = await beginEntry('early')
  const late = await beginEntry('late')
  await late.query('commit')
  // The lower id is not committed yet.
  const first = await readAfter(start)
  expect(first).toMatchObject({ entries: [], next: start })
  await early.query('commit')
  const second = await readAll(first.next)
  expect(actorsOf(second)).toEqual(['early', 'late'])
  const [one, two] = second.entries
  expect(one?.id).toBeLessThan(two?.id ?? 0)
})

it('does not wait for a transaction that has no entry yet, nor lose its later one', async () => {
  const { next: start } = await readAll(0)
  const writer = await openWriter()
  await writer.query('begin')
  await writer.query(`update feed set position = position`)
  await (await beginEntry('first')).query('commit')
  const first = await readAll(start)
  expect(actorsOf(first)).toEqual(['first'])
  await writer.query(
    `insert into audit (action, decision, actor) values ('push', 'allowed', 'second')`,
  )
  await writer.query('commit')
  expect(actorsOf(await readAll(first.next))).toEqual(['second'])
})

it('goes over an id whose transaction was rolled back', async () => {
  const { next: start } = await readAll(0)
  await (await beginEntry('undone')).query('rollback')
  await (await beginEntry('done')).query('commit')
  expect(actorsOf(await readAll(start))).toEqual(['done'])
})

it('has each entry once while many transactions write', async () => {
  const { next: start } = await readAll(0)
  const clients = await Promise.all(Array.from({ length: 6 }, openWriter))
  let isWriting = true
  const writing = Promise.all(
    clients.map(async (client, index) => {
      for (let count = 0; count < 40; count += 1) {
        await client.query('begin')
        await client.query(
          `insert into audit (action, decision, actor) values ('push', 'allowed', $1)`,
          [`${index}-${count}`],
        )
        await client.query('select pg_sleep($1)', [Math.random() / 100])
        await client.query(count % 7 === 0 ? 'rollback' : 'commit')
      }
    }),
  ).then(() => {
    isWriting = false
  })
  const seen: Entry[] = []
  let next = start
  while (isWriting || (await readAfter(next)).entries.length > 0) {
    const page = await readAll(next, '&n=7')
    seen.push(...page.entries)
    next = page.next
  }
  await writing
  const { rows } = await (await openWriter()).query(
    'select id::int, actor from audit where id > $1 order by id',
    [start],
  )
  expect(seen.map(({ id, actor }) => ({ id, actor }))).toEqual(rows)
  expect(rows.length).toBe(6 * 34)
})

it.each(['after=x', 'after=-1', 'after=1&before=2', 'after=1&after=2'])(
  'refuses the query %s',
  async (query) => {
    expect((await registry.request(`/api/v1/audit?${query}`)).status).toBe(400)
  },
)
