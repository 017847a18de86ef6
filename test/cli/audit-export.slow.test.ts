import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { errorLine, printed } from './operator.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

let registry: TestRegistry
let client: pg.Client
let folder: string
let cursorFile: string
const children: ChildProcess[] = []

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  folder = await mkdtemp(join(tmpdir(), 'rookery-audit-'))
  cursorFile = join(folder, 'cursor')
})

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

afterAll(async () => {
  await client.end()
  await registry.close()
  await rm(folder, { recursive: true })
})

async function addEntries(count: number): Promise<void> {
  await client.query(
    `insert into audit (action, decision, actor)
     select 'push', 'allowed', 'exported' from generate_series(1, $1::int)`,
    [count],
  )
}

type Export = { readonly child: ChildProcess; ids(): number[] }

function follow(...words: string[]): Export {
  const child = spawn(process.execPath, [MAIN, 'audit', '--follow', ...words], {
    env: { ...process.env, ...registry.settings },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  let text = ''
  child.stdout?.on('data', (chunk) => {
    text += chunk
  })
  const lines = () => text.split('\n').slice(0, -1)
  return { child, ids: () => lines().map((line) => (JSON.parse(line) as { id: number }).id) }
}

async function storedIds(): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `select id::int from audit where actor = 'exported' order by id`,
  )
  return rows.map(({ id }) => id)
}

it('follows new entries, and another run continues behind its cursor', async () => {
  const words = ['--actor', 'exported', '--cursor-file', cursorFile]
  await addEntries(700)
  const first = follow(...words)
  await vi.waitFor(() => expect(first.ids()).toHaveLength(700), 20_000)
  await addEntries(3)
  await vi.waitFor(() => expect(first.ids()).toHaveLength(703), 20_000)
  const isStored = async () => {
    expect(Number(await readFile(cursorFile, 'utf8'))).toBeGreaterThanOrEqual(
      first.ids().at(-1) ?? 0,
    )
  }
  await vi.waitFor(isStored, 20_000)
  first.child.kill('SIGTERM')
  expect(await once(first.child, 'exit')).toEqual([0, null])
  await addEntries(5)
  const second = follow(...words)
  await vi.waitFor(() => expect(second.ids()).toHaveLength(5), 20_000)
  expect([...first.ids(), ...second.ids()]).toEqual(await storedIds())
})

it('stores no cursor behind lines that nobody read', async () => {
  await addEntries(5)
  const before = await readFile(cursorFile, 'utf8')
  const broken = follow('--actor', 'exported', '--cursor-file', cursorFile)
  broken.child.stdout?.destroy()
  expect(await once(broken.child, 'exit')).toEqual([2, null])
  expect(await readFile(cursorFile, 'utf8')).toBe(before)
})

it('prints what there is after an id, and ends', async () => {
  const ids = await storedIds()
  const [after = 0] = ids.slice(-4)
  const text = await printed(registry, 'audit', '--actor', 'exported', '--after', String(after))
  const printedIds = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).id)
  expect(printedIds).toEqual(ids.slice(-3))
})

it('refuses an id and a file that are none', async () => {
  expect(await errorLine(registry, 'audit', '--after', 'x')).toContain('must be the id of an entry')
  await writeFile(cursorFile, 'another file\n')
  const words = ['audit', '--cursor-file', cursorFile]
  expect(await errorLine(registry, ...words)).toContain('must contain the id of an entry')
  expect(await readFile(cursorFile, 'utf8')).toBe('another file\n')
})
