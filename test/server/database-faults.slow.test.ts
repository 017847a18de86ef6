import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest'
import { checkPostgres } from '../../src/db/database.ts'
import { SUPERUSER } from '../../src/embedded-postgres/settings.ts'
import { MAIN, rookery } from '../cli/rookery.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { runUntilExit, startProcess, stopProcess } from '../support/server-process.ts'

const postgres = inject('postgres')
const FOUND = { timeout: 30_000, interval: 50 }

let folder: string
let database: TestDatabase

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-faults-'))
  database = await createTestDatabase('template0')
})

afterEach(async () => {
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

async function administer(sql: string, name = 'postgres'): Promise<void> {
  const client = new pg.Client({ ...postgres, user: SUPERUSER, database: name })
  await client.connect()
  await client.query(sql).finally(() => client.end())
}

const settings = (url = database.url) => ({
  ROOKERY_DATABASE_URL: url,
  ROOKERY_DATA_DIR: join(folder, 'data'),
})

/** The line of a start, which must fail at once. */
async function startLine(url?: string): Promise<string> {
  const ended = await runUntilExit(settings(url))
  expect(ended).toMatchObject({ status: 1, stdout: '' })
  expect(ended.stderr).toMatch(/^rookery: [^\n]+\n$/)
  return ended.stderr
}

/** The line of a command, which must leave no folder. */
async function commandLine(url?: string): Promise<string> {
  const ran = await rookery({ settings: settings(url) }, ['credential', 'list'])
  expect(ran).toMatchObject({ status: 2, stdout: '' })
  expect(ran.stderr).toMatch(/^rookery: [^\n]+\n$/)
  return ran.stderr
}

describe('a fault of the database is one line, with what to do', () => {
  it('for a role without rights on the schema', async () => {
    await administer('revoke create on schema public from public', database.name)
    await administer(`alter database ${database.name} owner to ${SUPERUSER}`)
    const line = await startLine()
    expect(line).toContain('cannot change the schema: permission denied for schema public; ')
    expect(line).toContain('alter database DATABASE owner to ROLE')
  })

  it('for a role that may not read the tables of another', async () => {
    await stopProcess(await startProcess(settings()))
    await administer('alter table schema_migrations owner to current_user', database.name)
    await administer('revoke all on schema_migrations from public', database.name)
    await administer(`revoke all on schema_migrations from ${postgres.user}`, database.name)
    expect(await commandLine()).toContain('alter database DATABASE owner to ROLE')
    expect(await startLine()).toContain('alter database DATABASE owner to ROLE')
  })

  it('for a missing database', async () => {
    const url = database.url.replace(database.name, 'absent')
    expect(await startLine(url)).toMatch(/database "absent" does not exist; create it/)
    expect(await commandLine(url)).toMatch(/database "absent" does not exist; create it/)
  })

  it('for a role that may not log in', async () => {
    const url = database.url.replace(`user=${postgres.user}`, 'user=absent')
    expect(await startLine(url)).toMatch(
      /cannot use the database: .*absent.*check user and password/,
    )
  })

  it('for a read-only standby', async () => {
    await administer(`alter database ${database.name} set default_transaction_read_only = on`)
    expect(await startLine()).toMatch(/read-only transaction; this is a standby/)
  })

  it('for a new database with another encoding', async () => {
    const name = `${database.name}_latin`
    const options = `encoding 'LATIN1' locale 'C' template template0`
    await administer(`create database ${name} owner ${postgres.user} ${options}`)
    const line = await startLine(database.url.replace(database.name, name))
    await administer(`drop database ${name}`)
    expect(line).toContain('its encoding is LATIN1, and must be UTF8')
  })

  it('for the database of another program', async () => {
    await administer('create table tags (name text)', database.name)
    expect(await startLine()).toMatch(/relation "tags" already exists; another program uses/)
  })

  it('for an old Postgres', async () => {
    const rows = [{ version: '130012', encoding: 'UTF8', isNew: true }]
    const old = { query: async () => ({ rows }) } as unknown as Parameters<typeof checkPostgres>[0]
    await expect(checkPostgres(old)).rejects.toThrow('Postgres 13 is too old: Rookery needs 14')
  })

  it('for a command without a registry, which it does not create', async () => {
    expect(await commandLine()).toContain('there is no registry in the database')
    expect(await readdir(folder)).toEqual([])
  })
})

it('the SQL of docs/settings.md makes a role and a database that work', async () => {
  const document = await readFile('docs/settings.md', 'utf8')
  const block = /```sql\n([^`]*)```/.exec(document)?.[1] ?? ''
  const name = `${database.name}_docs`
  const statements = block
    .replaceAll(/\brookery\b/g, name)
    .split(';\n')
    .filter(Boolean)
  expect(statements).toHaveLength(2)
  for (const statement of statements) await administer(statement)
  // The socket of the tests accepts the role by a map of its own.
  await administer(`grant ${name} to ${postgres.user}`)
  const options = encodeURIComponent(`-c role=${name}`)
  const url = `${database.url.replace(database.name, name)}&options=${options}`
  await stopProcess(await startProcess(settings(url)))
  expect((await rookery({ settings: settings(url) }, ['gc'])).status).toBe(0)
  await administer(`drop database ${name}`)
})

describe('a start while Postgres does not answer yet', () => {
  let proxy: Server
  let port: number
  const sockets = new Set<Socket>()

  beforeEach(async () => {
    proxy = createServer()
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const address = proxy.address()
    port = typeof address === 'object' && address !== null ? address.port : 0
    await new Promise((resolve) => proxy.close(resolve))
  })

  afterEach(() => {
    for (const socket of sockets) socket.destroy()
    sockets.clear()
    proxy.close()
  })

  function begin(more: Record<string, string> = {}) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
    const url = `postgres://${postgres.user}@127.0.0.1:${port}/${database.name}`
    const env = {
      ...Object.fromEntries(inherited),
      ROOKERY_LISTEN: '127.0.0.1:0',
      ...settings(url),
      ...more,
    }
    const child = spawn(process.execPath, [MAIN, 'serve'], { env })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk
      })
    }
    return { child, output: () => output }
  }

  /** Answers as Postgres does while it starts. */
  function answerStarting(): void {
    proxy.on('connection', (socket) => {
      sockets.add(socket)
      const fields = 'SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0'
      const length = Buffer.alloc(4)
      length.writeInt32BE(4 + Buffer.byteLength(fields))
      socket.on('error', () => {})
      socket.once('data', () =>
        socket.end(Buffer.concat([Buffer.from('E'), length, Buffer.from(fields)])),
      )
    })
  }

  it('waits, with one line, and starts when it answers', async () => {
    const { child, output } = begin()
    await expect.poll(output, FOUND).toContain('ECONNREFUSED')
    answerStarting()
    proxy.listen(port, '127.0.0.1')
    await expect.poll(() => sockets.size, FOUND).toBeGreaterThan(2)
    proxy.removeAllListeners('connection')
    proxy.on('connection', (socket) => {
      sockets.add(socket)
      const upstream = connect(join(postgres.host, `.s.PGSQL.${postgres.port}`))
      for (const one of [socket, upstream]) one.on('error', () => {})
      socket.pipe(upstream).pipe(socket)
    })
    await expect.poll(output, FOUND).toContain('"msg":"listening"')
    expect(output().match(/waiting for the database/g)).toHaveLength(1)
    child.kill('SIGTERM')
    expect((await once(child, 'close'))[0]).toBe(0)
  })

  it('ends at once with SIGTERM', async () => {
    const { child, output } = begin()
    await expect.poll(output, FOUND).toContain('waiting for the database')
    const begun = performance.now()
    child.kill('SIGTERM')
    expect((await once(child, 'close'))[0]).toBe(0)
    expect(performance.now() - begun).toBeLessThan(5_000)
    expect(output()).toMatch(/"msg":"stopping".*\n.*"msg":"stopped"/)
  })

  it('ends at once with SIGTERM while a connection hangs', async () => {
    proxy.on('connection', (socket) => sockets.add(socket))
    proxy.listen(port, '127.0.0.1')
    const { child, output } = begin()
    await expect.poll(() => sockets.size, FOUND).toBe(1)
    const begun = performance.now()
    child.kill('SIGTERM')
    expect((await once(child, 'close'))[0]).toBe(0)
    expect(performance.now() - begun).toBeLessThan(5_000)
    expect(output()).toContain('"msg":"stopped"')
  })

  it('fails with one line after its time', async () => {
    const { child, output } = begin({
      ROOKERY_DATABASE_WAIT_SECONDS: '1',
      ROOKERY_LOG_LEVEL: 'error',
    })
    expect((await once(child, 'close'))[0]).toBe(1)
    expect(output()).toMatch(
      /^rookery: cannot use the database: connect ECONNREFUSED [^\n]+waited 1 s[^\n]+\n$/,
    )
  })
})
