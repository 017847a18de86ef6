import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { build, builderOutput } from '../cli/builder.ts'
import { ROOT, readPage } from '../house/tree.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, startUpload } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const run = promisify(execFile)
const EVENTS_MILLISECONDS_MAX = 10_000

let folder: string
let database: TestDatabase
let settings: Record<string, string>
let previousMain: string
let previous: ServerProcess
let present: ServerProcess

/**
 * The newest release before this version, by its tag in the clone. Before the first release it is the last commit, which
 * differs from this tree only while it is changed; the later schema below is then the one that it does not know.
 */
function previousReference(): string {
  const { version } = JSON.parse(readPage('package.json'))
  const recorded = Object.keys(JSON.parse(readPage('schema/releases.json')))
  const newest = recorded.filter((one) => one !== version).at(-1)
  return newest === undefined ? 'HEAD' : `v${newest}`
}

/** Builds the release of a tag or commit with the installed packages. */
async function buildRelease(reference: string): Promise<string> {
  const tree = join(folder, 'previous')
  await mkdir(tree)
  const archive = join(folder, 'previous.tar')
  await run('git', ['archive', '--format=tar', '-o', archive, reference], { cwd: ROOT }).catch(
    (error) => {
      throw new Error(`${reference} is not in this clone; run: git fetch --tags\n${error.stderr}`)
    },
  )
  await run('tar', ['-xf', archive, '-C', tree])
  await symlink(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
  await run(process.execPath, [join(tree, 'scripts/build.mjs')])
  return join(tree, 'dist/main.js')
}

const at = ({ url }: ServerProcess): TestRegistry =>
  registryAt(url, settings.ROOKERY_DATA_DIR ?? '', settings)

async function text(registry: TestRegistry, path: string): Promise<string> {
  const answer = await registry.request(path)
  expect(answer.status, path).toBe(200)
  return answer.text()
}

/** Pushes with one server, and expects that the other one has everything, and continues an upload. */
async function pushAndRead(writer: TestRegistry, reader: TestRegistry): Promise<void> {
  const repository = newRepository()
  const feed = `/api/v1/events?repository=${repository}`
  const { cursor } = JSON.parse(await text(reader, feed))
  const url = `${writer.url.replace('//', `//admin:${writer.password}@`)}/${repository}:live`
  const pushed = await builderOutput(['push', build('hello-key-1'), '-'], { input: url })
  const [, digest = ''] = /^digest +(sha256:\w+)$/m.exec(pushed) ?? []
  expect(digest).not.toBe('')

  const api = `/api/v1/repositories/${repository}`
  const manifest = await reader.request(`/v2/${repository}/manifests/live`)
  expect(manifest.headers.get('docker-content-digest')).toBe(digest)
  expect(await text(reader, `/v2/${repository}/tags/list`)).toContain('"live"')
  expect(await text(reader, `${api}/images`)).toContain(digest)
  expect(await text(reader, `${api}/images/live`)).toContain(digest)
  expect(await text(reader, `${api}/tags/live/history`)).toContain(digest)
  expect(await text(reader, `/api/v1/images?repository=${repository}`)).toContain(digest)
  const kernel = await reader.request(`${api}/images/live/kernel?target=hvt`)
  expect((await kernel.arrayBuffer()).byteLength).toBeGreaterThan(1000)

  const location = await startUpload(writer, repository)
  const body = randomBytes(1000)
  const { pathname } = new URL(location, writer.url)
  const chunk = await reader.request(pathname, { method: 'PATCH', body })
  expect(chunk.status).toBe(202)

  const deleted = await reader.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
  expect(deleted.status).toBe(202)
  expect((await writer.request(`/v2/${repository}/manifests/live`)).status).toBe(404)
  await vi.waitFor(async () => {
    const events = await text(writer, `${feed}&after=${cursor}`)
    expect(events).toMatch(/image\.pushed[\s\S]*image\.tag\.deleted/)
  }, EVENTS_MILLISECONDS_MAX)
}

/** Adds to every table what a migration of a later release may add. */
async function addLaterMigration(): Promise<void> {
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string }>(
      "select tablename as name from pg_tables where schemaname = 'public'",
    )
    expect(rows.length).toBeGreaterThan(20)
    for (const { name } of rows) {
      const table = client.escapeIdentifier(name)
      await client.query(
        `alter table ${table} add column later_text text, add column later_number integer not null default 7`,
      )
    }
    await client.query('create table later_things (id bigint primary key)')
    await client.query("insert into schema_migrations (name) values ('9999-later.sql')")
  } finally {
    await client.end()
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-previous-'))
  // Without a schema: the previous release makes its own.
  database = await createTestDatabase('template1')
  settings = {
    ROOKERY_DATA_DIR: join(folder, 'data'),
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: randomBytes(12).toString('hex'),
    ROOKERY_LOG_LEVEL: 'error',
    ROOKERY_DRAIN_SECONDS: '1',
  }
  previousMain = await buildRelease(previousReference())
  previous = await startProcess(settings, { main: previousMain })
  await pushAndRead(at(previous), at(previous))
  // The second release migrates while the first one serves.
  present = await startProcess(settings)
})

afterAll(async () => {
  for (const server of [previous, present]) if (server !== undefined) await stopProcess(server)
  await database?.drop()
  await rm(folder, { recursive: true, force: true })
})

it('the previous release and this one serve one database and one store', async () => {
  await pushAndRead(at(previous), at(present))
  await pushAndRead(at(present), at(previous))
})

it('both continue when a later release adds to every table', async () => {
  await addLaterMigration()
  await pushAndRead(at(previous), at(present))
  await pushAndRead(at(present), at(previous))
})

it('the previous release starts again on the newer schema: one can go back', async () => {
  await stopProcess(present)
  await stopProcess(previous)
  previous = await startProcess(settings, { main: previousMain })
  await pushAndRead(at(previous), at(previous))
  present = await startProcess(settings)
  await pushAndRead(at(present), at(previous))
})
