import {
  chmod,
  chown,
  lchown,
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
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { errorLine, printedFor } from '../cli/operator.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { runUntilExit, startProcess, stopProcess } from '../support/server-process.ts'

const AS_ROOT = process.getuid?.() === 0
const DAEMON = 1

let base: string
let data: string
let database: TestDatabase

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-others-'))
  await chmod(base, 0o755)
  data = join(base, 'data')
  await mkdir(data)
  database = await createTestDatabase()
})

afterEach(async () => {
  await database.drop()
  await rm(base, { recursive: true, force: true })
})

describe.runIf(AS_ROOT)('a process of root', () => {
  const settings = () => ({ ROOKERY_DATA_DIR: data, ROOKERY_DATABASE_URL: database.url })

  it('writes nothing to a data folder of another user, and names the line that is right', async () => {
    await chown(data, DAEMON, DAEMON)
    const ended = await runUntilExit(settings())
    expect(ended.status).toBe(1)
    expect(ended.stderr).toMatch(/^rookery: .*data belongs to uid 1, .*sudo -u '#1' rookery/)
    // A command becomes that user, whom the socket of this Postgres refuses.
    expect(await errorLine({ settings: settings() }, 'gc')).toContain('EACCES')
    const { uid, nlink } = await stat(data)
    expect([uid, nlink]).toEqual([DAEMON, 2])
  })

  it.each(['blobs', 'uploads', 'admin-password', 'master-key'])(
    'follows nothing that another user left at %s',
    async (name) => {
      const secret = join(base, 'of root')
      await writeFile(secret, 'a password of the attacker')
      await symlink(secret, join(data, name))
      await chmod(data, 0o777)
      await lchown(join(data, name), DAEMON, DAEMON)
      const ended = await runUntilExit(settings())
      expect(ended.status).toBe(1)
      expect(ended.stderr).toContain(`${name} belongs to uid 1`)
      expect(await readFile(secret, 'utf8')).toBe('a password of the attacker')
    },
  )

  it('closes a data folder of its own to other writers', async () => {
    await chmod(data, 0o777)
    await stopProcess(await startProcess(settings()))
    expect((await stat(data)).mode & 0o777).toBe(0o755)
    for (const name of ['admin-password', 'master-key']) {
      expect((await lstat(join(data, name))).mode & 0o777).toBe(0o600)
    }
  })

  it('backs up to no folder of another user', async () => {
    await stopProcess(await startProcess(settings()))
    const to = join(base, 'backup')
    await mkdir(to)
    await chown(to, DAEMON, DAEMON)
    await symlink(join(base, 'stolen'), join(to, 'database.jsonl.gz.partial'))
    expect(await errorLine({ settings: settings() }, 'backup', '--to', to)).toContain('uid 1')
    await expect(lstat(join(base, 'stolen'))).rejects.toThrow('ENOENT')
    await chown(to, 0, 0)
    await rm(join(to, 'database.jsonl.gz.partial'))
    await writeFile(join(to, 'admin-password'), 'old', { mode: 0o644 })
    const done = await printedFor({ settings: settings() }, '', 'backup', '--to', to)
    expect(done.status).toBe(0)
    const [name = ''] = await readdir(join(to, 'generations'))
    for (const file of ['admin-password', 'master-key', 'database.jsonl.gz']) {
      expect((await lstat(join(to, 'generations', name, file))).mode & 0o777).toBe(0o600)
    }
  })
})
