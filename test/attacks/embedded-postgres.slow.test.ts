import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { findBinaries } from '../../src/embedded-postgres/binaries.ts'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { query, queryAs } from '../support/query.ts'

const run = promisify(execFile)
const CHILD = fileURLToPath(new URL('../support/embedded-postgres.child.ts', import.meta.url))
const AS_ROOT = process.getuid?.() === 0
const NOBODY = 65_534
const DAEMON = 1
const quiet = (): void => {}

let base: string
const running: EmbeddedPostgres[] = []
const children: ChildProcess[] = []

/** A folder of root below which root has secrets, and `data/postgres` for Postgres. */
async function makeBase(): Promise<{ folder: string; cluster: string; secret: string }> {
  base = await mkdtemp(join(tmpdir(), 'rookery-attack-'))
  await chmod(base, 0o755)
  const secret = join(base, 'of root')
  await mkdir(secret, { mode: 0o700 })
  await writeFile(join(secret, 'secret'), '18', { mode: 0o600 })
  const folder = join(base, 'data', 'postgres')
  return { folder, cluster: join(folder, 'cluster'), secret }
}

async function cleanUp(): Promise<void> {
  for (const postgres of running.splice(0)) await postgres.stop()
  for (const child of children.splice(0)) {
    child.stdin?.end()
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }
  await rm(base, { recursive: true, force: true })
}

async function start(folder: string): Promise<EmbeddedPostgres> {
  const log = { info: quiet, warn: quiet, error: quiet }
  const postgres = await startEmbeddedPostgres({ folder, log, onLost: quiet })
  running.push(postgres)
  return postgres
}

/** Starts Postgres in a process of another user. */
async function startAs(uid: number, folder: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
    ...(uid === 0 ? {} : { uid, gid: uid }),
  })
  children.push(child)
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  return { child, ...JSON.parse(line) }
}

/** Makes a folder as releases before this one did: one superuser `rookery`, whom every client may be. */
async function makeFormer(folder: string, uid: number) {
  const cluster = join(folder, 'cluster')
  await mkdir(dirname(folder), { recursive: true })
  await mkdir(join(folder, 'socket'), { recursive: true, mode: 0o700 })
  for (const path of [folder, join(folder, 'socket')]) {
    await chown(path, uid, uid)
    await chmod(path, 0o700)
  }
  const self = { uid: 0, gid: 0, via: 'self' } as const
  const binaries = await findBinaries(folder, self, undefined)
  const user = { uid, gid: uid, cwd: '/' }
  const words = ['-D', cluster, '-U', 'rookery', '-E', 'UTF8', '--locale=C', '--auth=trust']
  await run(binaries.initdb, words, user)
  const server = spawn(
    binaries.postgres,
    ['-D', cluster, '-c', 'listen_addresses=', '-k', join(folder, 'socket')],
    { ...user, stdio: 'ignore', detached: true },
  )
  const connection = {
    host: join(folder, 'socket'),
    port: 5432,
    user: 'rookery',
    database: 'postgres',
  }
  await expect.poll(() => query(connection, 'select 1').catch(() => 0), { timeout: 30_000 }).toBe(1)
  await query(connection, 'create database rookery')
  const sql = `create table notes (id bigint generated always as identity, note text);
    create function shout() returns text language sql as $$ select 'loud' $$;
    insert into notes (note) values ('kept')`
  const client = new pg.Client({ ...connection, database: 'rookery' })
  await client.connect()
  await client.query(sql)
  await client.end()
  const stop = async (): Promise<void> => {
    server.kill('SIGINT')
    await once(server, 'exit')
  }
  return { connection, server, stop }
}

describe.runIf(AS_ROOT)('the embedded Postgres of root', () => {
  let postgres: EmbeddedPostgres
  let folder: string
  let uid: number

  beforeAll(async () => {
    const made = await makeBase()
    folder = made.folder
    postgres = await start(folder)
    uid = (await stat(made.cluster)).uid
  })
  afterAll(cleanUp)

  it('has a uid that no user and no other process has, and no capability', async () => {
    expect(uid).toBeGreaterThanOrEqual(60_706)
    expect(uid).toBeLessThanOrEqual(61_183)
    expect(await readFile('/etc/passwd', 'utf8')).not.toContain(`:${uid}:`)
    const [pid] = (await readFile(join(folder, 'cluster', 'postmaster.pid'), 'utf8')).split('\n')
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    expect(status).toContain(`Uid:\t${uid}\t${uid}\t${uid}\t${uid}\n`)
    expect(status).toContain(`Gid:\t${uid}\t${uid}\t${uid}\t${uid}\n`)
    expect(status).toMatch(/^Groups:\s*$/m)
    expect(status).toMatch(/^CapPrm:\s0+$/m)
  })

  it.each([NOBODY, DAEMON])('lets no process of uid %i reach its socket', async (other) => {
    for (const user of ['rookery', 'rookery_supervisor']) {
      const answer = await queryAs(other, { ...postgres.connection, user }, 'select 1')
      expect(answer.refused).toMatch(/EACCES/)
    }
  })

  it('refuses a client with the uid of Postgres itself', async () => {
    for (const user of ['rookery', 'rookery_supervisor']) {
      const answer = await queryAs(uid, { ...postgres.connection, user }, 'select 1')
      expect(answer.refused).toMatch(/[Pp]eer authentication failed/)
    }
  })

  it('leaves to its uid nothing but the cluster and the socket folder', async () => {
    for (const path of [dirname(folder), folder]) expect((await stat(path)).uid).toBe(0)
    expect((await stat(folder)).mode & 0o777).toBe(0o710)
    const owned = []
    for (const name of await readdir(folder)) {
      const found = await lstat(join(folder, name))
      if (found.uid === uid) owned.push(name)
      else expect([name, found.uid, found.mode & 0o027]).toEqual([name, 0, 0])
    }
    expect(owned.sort()).toEqual(['cluster', 'socket'])
  })
})

describe.runIf(AS_ROOT)('a start as root', () => {
  afterEach(cleanUp)

  it('sends no signal to a process that the lock file names', async () => {
    const { folder, cluster } = await makeBase()
    const first = await start(folder)
    const { uid } = await stat(cluster)
    await running.pop()?.stop()
    expect(first.connection.host).toBe(join(folder, 'socket'))
    const fake = join(base, 'postgres')
    await copyFile('/bin/sleep', fake)
    await chmod(fake, 0o755)
    // A Postgres of root elsewhere, and one of the right user in another folder.
    const victims = [
      spawn(fake, ['60'], { cwd: cluster }),
      spawn(fake, ['60'], { cwd: '/', uid, gid: uid }),
      spawn('sleep', ['60'], { cwd: cluster, uid, gid: uid }),
    ]
    for (const victim of victims) {
      const lines = [victim.pid, cluster, 1, 5432, join(base, 'of root'), '', '', 'ready']
      await writeFile(join(cluster, 'postmaster.pid'), lines.join('\n'), { mode: 0o600 })
      await chown(join(cluster, 'postmaster.pid'), uid, uid)
      const postgres = await start(folder)
      expect(postgres.connection.host).toBe(join(folder, 'socket'))
      await running.pop()?.stop()
    }
    for (const victim of victims) {
      expect([victim.exitCode, victim.signalCode]).toEqual([null, null])
      victim.kill('SIGKILL')
    }
  })

  it.each(['socket', 'native', 'pg_hba.conf', 'uid', 'cluster.1.new'])(
    'follows no link that nobody left at %s',
    async (name) => {
      const { folder, secret } = await makeBase()
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const target = name === 'pg_hba.conf' || name === 'uid' ? join(secret, 'secret') : secret
      await symlink(target, join(folder, name))
      await chown(folder, NOBODY, NOBODY)
      if (name === 'uid') await expect(start(folder)).rejects.toThrow(/symbolic link.*move it away/)
      else await start(folder)
      expect(await readFile(join(secret, 'secret'), 'utf8')).toBe('18')
      for (const path of [secret, join(secret, 'secret')]) {
        const { uid, gid, mode } = await stat(path)
        expect([uid, gid, mode & 0o077]).toEqual([0, 0, 0])
      }
    },
  )

  it('refuses links, second names and pipes in data that nobody could write', async () => {
    const { folder, cluster, secret } = await makeBase()
    const of = join(secret, 'secret')
    const plants: [plant: () => Promise<unknown>, message: RegExp][] = [
      [() => symlink(secret, cluster), /is no folder/],
      [() => mkdir(cluster).then(() => symlink(of, join(cluster, 'PG_VERSION'))), /symbolic link/],
      [() => mkdir(cluster).then(() => run('mkfifo', [join(cluster, 'PG_VERSION')])), /no regular/],
    ]
    for (const [plant, message] of plants) {
      await mkdir(folder, { recursive: true })
      await plant()
      await chown(folder, NOBODY, NOBODY)
      await expect(start(folder)).rejects.toThrow(message)
      await rm(folder, { recursive: true })
    }
    await (await makeFormer(folder, NOBODY)).stop()
    const planted = join(cluster, 'base', 'planted')
    const more: [plant: () => Promise<unknown>, message: RegExp][] = [
      [() => symlink(secret, planted), /planted is a symbolic link/],
      [() => link(of, planted), /planted has a second name/],
    ]
    for (const [plant, message] of more) {
      await plant()
      await expect(start(folder)).rejects.toThrow(message)
      expect((await stat(of)).uid).toBe(0)
      expect((await stat(secret)).uid).toBe(0)
      await rm(planted)
    }
    const { connection } = await start(folder)
    expect(await query(connection, 'select note from notes')).toBe('kept')
  })

  it('moves data of nobody to the uid of its own, unless a process still has them open', async () => {
    const { folder, cluster } = await makeBase()
    const former = await makeFormer(folder, NOBODY)
    await expect(start(folder)).rejects.toThrow(/still runs on .*kill -INT/)
    await former.stop()
    const version = join(cluster, 'PG_VERSION')
    const reader = spawn('sh', ['-c', `exec 3<'${version}'; echo ready; exec sleep 60`])
    await once(reader.stdout, 'data')
    await expect(start(folder)).rejects.toThrow(new RegExp(`process ${reader.pid} has files`))
    reader.kill()
    await once(reader, 'exit')

    const { connection } = await start(folder)
    expect(await query(connection, 'select note from notes')).toBe('kept')
    expect(await query(connection, 'select shout()')).toBe('loud')
    const insert = `insert into notes (note) values ('new') returning id > 1`
    expect(await query(connection, insert)).toBe(true)
    await query(connection, 'alter table notes add column more text')
    await expect(query(connection, `select pg_read_file('/etc/passwd')`)).rejects.toThrow(/denied/)
    const { stdout } = await run('find', [folder, '-uid', String(NOBODY)])
    expect(stdout).toBe('')
  })

  it("leaves an ordinary user's data to him, and names the line that starts it", async () => {
    const { folder, cluster } = await makeBase()
    await chown(base, DAEMON, DAEMON)
    const { child } = await startAs(DAEMON, folder)
    child.stdin?.end()
    await once(child, 'exit')
    const before = await stat(cluster)
    await expect(start(folder)).rejects.toThrow(/belongs to uid 1, .*sudo -u '#1' rookery/)
    await chown(dirname(folder), 0, 0)
    await expect(start(folder)).rejects.toThrow(/belongs to uid 1, .*sudo -u '#1' rookery/)
    await chown(folder, 0, 0)
    await expect(start(folder)).rejects.toThrow(/belongs to uid 1, .*sudo -u '#1' rookery/)
    const after = await stat(cluster)
    expect([after.uid, after.gid, after.mode]).toEqual([before.uid, before.gid, before.mode])
  })

  it('refuses a folder whose entries other users may exchange', async () => {
    const { folder } = await makeBase()
    await mkdir(dirname(folder))
    await chmod(dirname(folder), 0o777)
    await expect(start(folder)).rejects.toThrow(/run: chmod go-w/)
  })

  it('adopts data that root restored', async () => {
    const { folder, cluster } = await makeBase()
    const first = await start(folder)
    await query(first.connection, `create table notes as select 'restored' as note`)
    await running.pop()?.stop()
    const copied = join(base, 'data', 'copied')
    await mkdir(copied)
    await run('cp', ['-r', folder, copied])
    await rm(join(copied, 'postgres', 'uid'))
    await rm(folder, { recursive: true })
    const { connection } = await start(join(copied, 'postgres'))
    expect(await query(connection, 'select note from notes')).toBe('restored')
    expect((await stat(join(copied, 'postgres', 'cluster'))).uid).not.toBe(0)
    expect(cluster).not.toBe(copied)
  })
})

describe.runIf(AS_ROOT)('a start as an ordinary user', () => {
  afterEach(cleanUp)

  it('moves a cluster that trusted every client to its own rules and roles', async () => {
    const { folder } = await makeBase()
    await mkdir(dirname(folder))
    for (const path of [base, dirname(folder)]) await chown(path, DAEMON, DAEMON)
    const { stop } = await makeFormer(folder, DAEMON)
    await stop()
    const rename = 'alter table notes rename column note to text; select text from notes'
    for (const sql of [rename, 'select text from notes']) {
      const { child, connection } = await startAs(DAEMON, folder)
      expect(await queryAs(DAEMON, connection, sql)).toEqual({ value: 'kept' })
      const read = `select pg_read_file('/etc/passwd')`
      expect((await queryAs(DAEMON, connection, read)).refused).toMatch(/permission denied/)
      expect((await queryAs(NOBODY, connection, 'select 1')).refused).toMatch(/EACCES/)
      child.stdin?.end()
      await once(child, 'exit')
    }
  })

  it('replaces a Postgres with the former rules that outlived its rookery', async () => {
    const { folder } = await makeBase()
    await mkdir(dirname(folder))
    for (const path of [base, dirname(folder)]) await chown(path, DAEMON, DAEMON)
    const { server } = await makeFormer(folder, DAEMON)
    const { connection } = await startAs(DAEMON, folder)
    if (server.exitCode === null) await once(server, 'exit')
    expect(await queryAs(DAEMON, connection, 'select note from notes')).toEqual({ value: 'kept' })
    // Root is another user, too.
    await expect(query(connection, 'select 1')).rejects.toThrow(/[Pp]eer authentication failed/)
  })
})
