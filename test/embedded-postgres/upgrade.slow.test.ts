import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, chmod, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { migrate } from '../../src/db/migrations.ts'
import type { Binaries } from '../../src/embedded-postgres/binaries.ts'
import {
  NATIVE_PACKAGE,
  prepareNativePackage,
  readPackage,
} from '../../src/embedded-postgres/native-package.ts'
import { ensureOwnUid } from '../../src/embedded-postgres/own-uid.ts'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { query } from '../support/query.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'

const run = promisify(execFile)

const OLD = { major: 17, version: '17.10.0-beta.17' }
const CACHE = fileURLToPath(new URL(`../../.cache/postgres-${OLD.major}/`, import.meta.url))
const PACKAGE = join(CACHE, 'node_modules', NATIVE_PACKAGE)
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const DAEMON = 1
const INSTALL_MILLISECONDS_MAX = 120_000
const log = { info() {}, warn() {}, error() {} }

async function installOld(): Promise<string | undefined> {
  try {
    await access(join(PACKAGE, 'package.json'))
    return undefined
  } catch {
    const name = `${NATIVE_PACKAGE}@${OLD.version}`
    const args = ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts']
    await mkdir(CACHE, { recursive: true })
    return run('npm', [...args, '--prefix', CACHE, name], {
      timeout: INSTALL_MILLISECONDS_MAX,
    }).then(
      () => undefined,
      (error: Error) => `npm cannot install ${name}: ${error.message.split('\n')[0]}`,
    )
  }
}

const missing = await installOld()
if (missing !== undefined && process.env.CI === 'true') throw new Error(missing)

let base: string
let folder: string
let old: Binaries

/** Rows with everything that a copy may change. */
const ROWS = [
  `insert into repositories (name, visibility) select 'r/' || n, 'private' from generate_series(1, 300) n`,
  `insert into manifests (repository_id, digest, media_type, annotations, bytes, pushed_by, pushed_at)
   select id, 'sha256:' || lpad(id::text, 64, '0'), 'a/b', '{"a\\u0000": "é\\\\"}', '\\x00ff0a', E'\\t"\\n', now()
     from repositories`,
  `insert into tags (repository_id, name, digest, moved_at)
   select repository_id, 'live', digest, 'infinity' from manifests`,
  `insert into revocations (subject, expires_at) values ('token:x', now() + interval '1 day')`,
  `select nextval(pg_get_serial_sequence('repositories', 'id')) from generate_series(1, 10)`,
]

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-upgrade-'))
  await chmod(base, 0o755)
})
afterAll(async () => {
  await rm(base, { recursive: true, force: true })
})

beforeEach(async () => {
  const data = await mkdtemp(join(base, 'data-'))
  await chmod(data, 0o755)
  folder = join(data, 'postgres')
  const found = await readPackage(PACKAGE)
  await mkdir(folder, { mode: 0o710 })
  const root = process.getuid?.() === 0
  const uid = root ? await ensureOwnUid(folder) : (process.getuid?.() ?? 0)
  const osUser = { uid, gid: uid, via: root ? 'spawn' : 'self' } as const
  const bin = await prepareNativePackage(found, base, osUser)
  old = { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb'), major: OLD.major }
  const server = await startOld()
  const db = new Database({ connection: server.connection, connectionsMax: 2, onIdleError() {} })
  await migrate(db)
  await db.close()
  for (const statement of ROWS) await query(server.connection, statement)
  await server.stop()
}, 60_000)

function startOld(): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ folder, log, binaries: old, onLost() {} })
}

function startNew(): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ folder, log, onLost() {} })
}

function environment(of: string): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, ROOKERY_DATA_DIR: join(of, '..') }
}

type Run = {
  readonly json?: boolean
  readonly folder?: string
  readonly env?: NodeJS.ProcessEnv
  readonly uid?: number
  readonly gid?: number
}

async function upgrade({
  json = false,
  folder: of = folder,
  env = environment(of),
  ...user
}: Run = {}) {
  const args = [MAIN, 'upgrade-database', '--from-binaries', PACKAGE, ...(json ? ['--json'] : [])]
  return run(process.execPath, args, { env, cwd: '/', ...user }).then(
    ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ status: code as number, stdout, stderr }),
  )
}

const STATE = `select json_build_object(
    'rows', (select json_agg(m order by id) from manifests m),
    'tags', (select json_agg(t order by repository_id) from tags t),
    'installation', (select id from installation),
    'migrations', (select json_agg(m order by name) from schema_migrations m),
    'revocations', (select count(*) from revocations),
    'next', (select last_value from pg_sequences where sequencename = 'repositories_id_seq'))::text`

async function stateOf(server: EmbeddedPostgres): Promise<unknown> {
  try {
    return await query(server.connection, STATE)
  } finally {
    await server.stop()
  }
}

describe.skipIf(missing !== undefined)(
  `data of Postgres ${OLD.major}${missing ? `: ${missing}` : ''}`,
  () => {
    it('are not opened by a newer one, and the message names the command', async () => {
      await expect(startNew()).rejects.toThrow(
        /belong to Postgres 17, and the binaries found are .*18.*; run: rookery upgrade-database$/,
      )
    })

    it('are the same after the upgrade, and the old ones stay', async () => {
      const before = await stateOf(await startOld())
      const owner = (await stat(join(folder, 'cluster'))).uid
      const done = await upgrade({ json: true })
      expect([done.stderr, done.status]).toEqual(['', 0])
      const result = JSON.parse(done.stdout)
      expect(result).toMatchObject({ from: 17, major: 18, upgraded: true })
      expect(result.rows).toBeGreaterThan(900)
      const kept = join(folder, 'cluster.17')
      expect(result.kept).toMatchObject({ path: kept, bytes: expect.any(Number) })
      expect(await stateOf(await startNew())).toBe(before)
      expect((await stat(join(folder, 'cluster'))).uid).toBe(owner)
      expect(await readdir(folder)).not.toContain('upgrade')
      const again = await upgrade()
      expect(again.stdout).toBe('The data are those of Postgres 18 already.\n')
      await rm(join(folder, 'cluster'), { recursive: true })
      await run('mv', [kept, join(folder, 'cluster')])
      expect(await stateOf(await startOld())).toBe(before)
    }, 120_000)

    it('are refused while a server runs on them', async () => {
      const server = await startOld()
      try {
        const { status, stderr } = await upgrade()
        expect([status, stderr]).toEqual([
          2,
          expect.stringContaining(`pid ${process.pid}) is already running`),
        ])
      } finally {
        await server.stop()
      }
    }, 60_000)

    it('survive kill -9 of the command at any step, and the next run goes on', async () => {
      const before = await stateOf(await startOld())
      const args = [MAIN, 'upgrade-database', '--from-binaries', PACKAGE]
      for (const milliseconds of [600, 1_200, 2_000, 3_000, 4_000]) {
        const child = spawn(process.execPath, args, { env: environment(folder), stdio: 'ignore' })
        const ended = once(child, 'exit')
        await delay(milliseconds)
        child.kill('SIGKILL')
        await ended
        if ((await readdir(folder)).includes('cluster.17')) break
        expect(await stateOf(await startOld())).toBe(before)
      }
      if (!(await readdir(folder)).includes('cluster.17')) {
        const done = await upgrade()
        expect([done.stderr, done.status]).toEqual(['', 0])
      }
      expect(await stateOf(await startNew())).toBe(before)
    }, 180_000)

    it('are there when the command was killed between the two renames', async () => {
      const before = await stateOf(await startOld())
      expect((await upgrade()).status).toBe(0)
      await run('mv', [join(folder, 'cluster'), join(folder, 'cluster.complete')])
      expect(await stateOf(await startNew())).toBe(before)
    }, 120_000)

    it('are upgraded by their owner, an ordinary user', async (context) => {
      if (process.getuid?.() !== 0) return context.skip('the tests above ran as an ordinary user')
      await rm(join(folder, 'uid'))
      await run('chown', ['-R', `${DAEMON}:${DAEMON}`, join(folder, '..')])
      const done = await upgrade({ uid: DAEMON, gid: DAEMON })
      expect([done.stderr, done.status]).toEqual(['', 0])
      for (const name of ['cluster', 'cluster.17'])
        expect((await stat(join(folder, name))).uid).toBe(DAEMON)
    }, 120_000)

    it('stay as they are on a disk without space, which is said before', async (context) => {
      const disk = await mountSmallDisk(400)
      if (disk === undefined) return context.skip('nobody may mount a small disk here')
      try {
        await chmod(disk, 0o755)
        await run('cp', ['-a', folder, disk])
        const { status, stderr } = await upgrade({ folder: join(disk, 'postgres') })
        expect([status, stderr]).toEqual([
          2,
          expect.stringMatching(/an upgrade needs \d+ MiB in .*, and \d+ MiB are free; make room/),
        ])
        expect(await readdir(join(disk, 'postgres'))).not.toContain('cluster.17')
      } finally {
        await unmountSmallDisk(disk)
      }
    }, 60_000)

    it('in a Postgres of the operator are upgraded with its own tools', async () => {
      const env = { ...environment(folder), ROOKERY_DATABASE_URL: 'postgres://127.0.0.1:1/none' }
      const { status, stderr } = await upgrade({ env })
      expect([status, stderr]).toEqual([
        2,
        expect.stringContaining('upgrade it with its own tools'),
      ])
    })

    it('of a newer version than that name the release that wrote them', async () => {
      await run('sh', ['-c', `echo 99 > '${join(folder, 'cluster', 'PG_VERSION')}'`])
      await expect(startNew()).rejects.toThrow(
        /belong to Postgres 99, .* which are older; run the release of rookery that wrote the data/,
      )
      const { stderr } = await upgrade()
      expect(stderr).toMatch(
        /belong to Postgres 99, which is newer than Postgres 18 of this release/,
      )
    })
  },
)
