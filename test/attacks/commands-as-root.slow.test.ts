import { execFile } from 'node:child_process'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MAIN, rookery, runMain } from '../cli/rookery.ts'
import { runUntilExit, startProcess, stopProcess } from '../support/server-process.ts'

const AS_ROOT = process.getuid?.() === 0
const DAEMON = 1
const AS_DAEMON = { uid: DAEMON, gid: DAEMON }

let base: string
let data: string

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-root-'))
  await chmod(base, 0o755)
  data = join(base, 'data')
  await mkdir(data)
})

afterEach(() => rm(base, { recursive: true, force: true }))

const settings = () => ({ ROOKERY_DATA_DIR: data, HOME: base })

/** Owner, group and mode of every folder and lasting file, by path. */
async function ownersBelow(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const path of ['', ...(await readdir(folder, { recursive: true, encoding: 'utf8' }))]) {
    // Postgres makes and removes its own files.
    if (/cluster\/./.test(path)) continue
    const { uid, gid, mode } = await lstat(join(folder, path))
    found.set(path, `${uid}:${gid} ${(mode & 0o777).toString(8)}`)
  }
  return found
}

async function pathsOfOthers(folder: string, uid: number): Promise<string> {
  const { stdout } = await promisify(execFile)('find', [folder, '!', '-uid', String(uid)])
  return stdout
}

const COMMANDS = [
  ['credential', 'list'],
  ['credential', 'create', 'made-by-root', '--repository', 'a'],
  ['token', 'mint', '--repository', 'a'],
  ['gc'],
  ['scrub'],
  ['audit'],
  ['webhook', 'list'],
]

/** Many commands, each a process, on a busy machine. */
const COMMANDS_MILLISECONDS_MAX = 240_000

describe.runIf(AS_ROOT)(
  'commands of root beside a server of another user',
  { timeout: COMMANDS_MILLISECONDS_MAX },
  () => {
    it('work, and change no owner, while it runs and after it stopped', async () => {
      await chown(data, DAEMON, DAEMON)
      const server = await startProcess(settings(), AS_DAEMON)
      const before = await ownersBelow(data)
      for (const words of COMMANDS) {
        const ran = await rookery({ settings: settings() }, words)
        expect([words, ran.status, ran.stderr]).toEqual([words, 0, ''])
      }
      expect(await ownersBelow(data)).toEqual(before)
      const ready = await fetch(`${server.url}/readyz`)
      expect(ready.status).toBe(200)
      expect(await stopProcess(server)).toBe(0)

      const to = join(base, 'backup')
      await mkdir(to)
      await chown(to, DAEMON, DAEMON)
      for (const words of [['credential', 'list'], ['gc'], ['backup', '--to', to]]) {
        const ran = await rookery({ settings: settings() }, words)
        expect([words, ran.status, ran.stderr]).toEqual([words, 0, ''])
      }
      expect(await pathsOfOthers(data, DAEMON)).toBe('')
      expect(await pathsOfOthers(to, DAEMON)).toBe('')
      await stopProcess(await startProcess(settings(), AS_DAEMON))
    })

    it('is one line for a backup to a folder of root, which that user may not write', async () => {
      await chown(data, DAEMON, DAEMON)
      await stopProcess(await startProcess(settings(), AS_DAEMON))
      const to = join(base, 'backup')
      await mkdir(to, { mode: 0o700 })
      const ran = await rookery({ settings: settings() }, ['backup', '--to', to])
      expect(ran).toMatchObject({ status: 2, stdout: '' })
      expect(ran.stderr).toMatch(/^rookery: EACCES: [^\n]+\n$/)
      expect(await readdir(to)).toEqual([])
    })
  },
)

describe.runIf(AS_ROOT)(
  'commands of another user beside a server of root',
  { timeout: COMMANDS_MILLISECONDS_MAX },
  () => {
    it('are refused in one line, and change nothing', async () => {
      const server = await startProcess(settings())
      for (const running of [true, false]) {
        if (!running) await stopProcess(server)
        const before = await ownersBelow(data)
        for (const words of COMMANDS) {
          const ran = await runAs(words)
          expect([words, ran.status]).toEqual([words, 2])
          expect(ran.stderr).toMatch(/^rookery: [^\n]*start rookery as root[^\n]*\n$/)
        }
        expect(await ownersBelow(data)).toEqual(before)
      }
    })

    async function runAs(words: readonly string[]) {
      const script = 'exec setpriv --reuid=1 --regid=1 --clear-groups "$@"'
      const { PATH } = process.env
      const env = { PATH, ...settings() }
      try {
        const all = ['-c', script, 'sh', process.execPath, MAIN, ...words]
        await promisify(execFile)('sh', all, { env })
        return { status: 0, stderr: '' }
      } catch (error) {
        const { code, stderr } = error as { code: number; stderr: string }
        return { status: code, stderr }
      }
    }
  },
)

describe('a data folder that cannot be', () => {
  const TOO_LONG = `/tmp/${'a'.repeat(300)}`

  it.each(['/proc/x', '/proc/self/x/y', '/dev/null/x', '/etc/passwd', '/etc/passwd/x', TOO_LONG])(
    'is refused within seconds in one line: %s',
    async (folder) => {
      const ended = await runUntilExit({ ROOKERY_DATA_DIR: folder })
      expect(ended).toMatchObject({ status: 1, stdout: '' })
      expect(ended.stderr).toMatch(/^rookery: cannot make the data folder [^\n]+\n$/)
      const ran = await runMain(['gc'], {
        env: { PATH: process.env.PATH, ROOKERY_DATA_DIR: folder },
      })
      expect(ran).toMatchObject({ status: 2, stdout: '' })
      expect(ran.stderr).toMatch(/^rookery: there is no registry in [^\n]+\n$/)
    },
  )

  it.runIf(AS_ROOT)('is refused in one line without the right to write to it', async () => {
    await chmod(data, 0o755)
    const closed = await runUntilExit(settings(), AS_DAEMON)
    expect(closed.status).toBe(1)
    expect(closed.stderr).toMatch(/^rookery: [^\n]+(?:EACCES|EPERM)[^\n]+\n$/)
    const below = await runUntilExit({ ROOKERY_DATA_DIR: join(data, 'below') }, AS_DAEMON)
    expect(below.stderr).toMatch(/^rookery: cannot make the data folder [^\n]+EACCES[^\n]+\n$/)
    expect(await readdir(data)).toEqual([])
  })

  it.runIf(AS_ROOT)('is refused in one line when a file is in the place of a folder', async () => {
    await writeFile(join(data, 'blobs'), '')
    const ended = await runUntilExit(settings())
    expect(ended.status).toBe(1)
    expect(ended.stderr).toMatch(/^[^\n]*\n?rookery: [^\n]*blobs[^\n]+\n$/m)
  })
})
