import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { MAIN } from '../cli/rookery.ts'
import { createTestDatabase } from '../support/database.ts'
import { digestOf } from '../support/digest.ts'
import { hasProgram } from '../support/has-program.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import {
  runUntilExit,
  type ServerProcess,
  startProcess,
  stopProcess,
} from '../support/server-process.ts'

const runFile = promisify(execFile)
/** Control-C on a terminal. */
const INTERRUPT = '\u0003'
const ACCEPT_IMAGE = { accept: IMAGE_MANIFEST }
const AS_ROOT = process.getuid?.() === 0
const ORDINARY_USER = 1

let folder: string
let running: ServerProcess[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-start-'))
  await chmod(folder, 0o755)
  running = []
})

afterEach(async () => {
  for (const server of running) await stopProcess(server)
  await rm(folder, { recursive: true, force: true })
})

async function begin(
  settings: Record<string, string> = {},
  identity: { uid?: number; gid?: number } = {},
): Promise<ServerProcess> {
  const server = await startProcess(
    { ROOKERY_DATA_DIR: join(folder, 'data'), ...settings },
    identity,
  )
  running.push(server)
  return server
}

async function push(url: string, password: string, content: string): Promise<string> {
  const digest = digestOf(content)
  const answer = await fetch(`${url}/v2/a/b/blobs/uploads/?digest=${digest}`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`admin:${password}`).toString('base64')}` },
    body: content,
  })
  expect(answer.status).toBe(201)
  return digest
}

async function passwordIn(data: string): Promise<string> {
  return (await readFile(join(data, 'admin-password'), 'utf8')).trim()
}

describe('rookery serve with no settings but an address and a folder', () => {
  it('prints lines of 80 columns that work when pasted in a second terminal, in any folder', async () => {
    const { banner, url } = await begin()
    for (const line of banner.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
    const [, pasted = ''] = /^Paste in a second terminal:\n((?: {2}.*\n)+)/m.exec(banner) ?? []
    const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: folder }
    const { stdout } = await runFile('bash', ['-euc', pasted], { cwd: '/', env })
    expect(stdout.match(/^digest +sha256:[0-9a-f]{64}$/gm)).toHaveLength(2)
    expect(stdout).toMatch(/^ {2}push +Push an orb build/m)
    const manifest = await fetch(`${url}/v2/hello/world/manifests/v1`, { headers: ACCEPT_IMAGE })
    expect(manifest.status).toBe(200)
  })

  it('names the version, the address, and the help', async () => {
    const { banner, url } = await begin()
    const { version } = JSON.parse(await readFile('package.json', 'utf8'))
    expect(banner.startsWith(`Rookery ${version} listens on ${url}\n`)).toBe(true)
    const [, page = ''] = /^Or open (\S+) in a browser\.$/m.exec(banner) ?? []
    expect((await fetch(page)).headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(banner).toMatch(/^ {2}rookery --help$/m)
    expect(banner).not.toContain('npx')
    expect(banner).toMatch(/^Documentation: README\.md and docs\/$/m)
  })

  it.skipIf(!hasProgram('script'))('prints nothing but the banner on a terminal', async () => {
    const settings = { ROOKERY_DATA_DIR: join(folder, 'data'), ROOKERY_LISTEN: '127.0.0.1:0' }
    const command = `exec '${process.execPath}' '${MAIN}' serve`
    const terminal = spawn('script', ['-qefc', command, '/dev/null'], {
      env: { PATH: process.env.PATH, HOME: folder, ...settings },
    })
    const exited = once(terminal, 'exit')
    let output = ''
    terminal.stdout.on('data', (chunk) => {
      output += chunk
    })
    await expect.poll(() => output, { timeout: 30_000 }).toMatch(/^Documentation: [^\n]*\n/m)
    expect(output).toMatch(/^Rookery \S+ listens on /)
    expect(output).not.toContain('"level"')
    expect(output).toContain(await passwordIn(join(folder, 'data')))
    terminal.stdin.write(INTERRUPT)
    expect(await exited).toEqual([0, null])
  })

  it('keeps the password in a file that only its owner can read', async () => {
    const { banner } = await begin()
    const data = join(folder, 'data')
    const password = await passwordIn(data)
    expect(banner).not.toContain(password)
    expect(banner).toContain(join(data, 'admin-password'))
    expect((await stat(join(data, 'admin-password'))).mode & 0o777).toBe(0o600)
  })

  it('starts again on the same data, and does not print the password again', async () => {
    const first = await begin()
    const password = await passwordIn(join(folder, 'data'))
    const digest = await push(first.url, password, 'kept')
    expect(await stopProcess(first)).toBe(0)
    const second = await begin()
    expect(second.banner).not.toContain(password)
    expect(second.banner).toContain('admin-password')
    expect(await (await fetch(`${second.url}/v2/a/b/blobs/${digest}`)).text()).toBe('kept')
  })

  it('starts again after kill -9, and uses the Postgres that is still running', async () => {
    const first = await begin()
    const digest = await push(first.url, await passwordIn(join(folder, 'data')), 'kept')
    await stopProcess(first, 'SIGKILL')
    const second = await begin()
    expect(await (await fetch(`${second.url}/v2/a/b/blobs/${digest}`)).text()).toBe('kept')
  })

  it('leaves no process behind after SIGTERM', async () => {
    const server = await begin()
    const data = join(folder, 'data')
    expect(await processesOf(data)).not.toHaveLength(0)
    expect(await stopProcess(server)).toBe(0)
    expect(await processesOf(data)).toHaveLength(0)
  })

  it('refuses a second process on the same data in one line', async () => {
    await begin()
    const second = await runUntilExit({ ROOKERY_DATA_DIR: join(folder, 'data') })
    expect(second.status).toBe(1)
    expect(lastLine(second.stderr)).toMatch(/^rookery: another rookery \(pid \d+\) is already/)
    expect(second.stdout).toBe('')
  })

  it('reports a port in use in one line, before it starts anything', async () => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const address = taken.address()
    const port = typeof address === 'object' ? address?.port : undefined
    const ended = await runUntilExit({
      ROOKERY_LISTEN: `127.0.0.1:${port}`,
      ROOKERY_DATA_DIR: join(folder, 'data'),
    })
    taken.close()
    expect(ended.status).toBe(1)
    expect(ended.stderr).toMatch(/^rookery: cannot listen on 127\.0\.0\.1:\d+: [^\n]+\n$/)
    expect(await readdir(folder)).toEqual([])
  })
})

describe('rookery serve with a wrong setting', () => {
  it.each([
    [{ ROOKERY_LISTEN: '5000' }, 'ROOKERY_LISTEN must be address:port'],
    [{ ROOKERY_LISTNE: '127.0.0.1:1' }, 'ROOKERY_LISTNE is not a setting'],
    [{ ROOKERY_DATABASE_URL: 'mysql://x' }, 'ROOKERY_DATABASE_URL must be like postgres://'],
    [
      {
        ROOKERY_DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
        ROOKERY_DATABASE_WAIT_SECONDS: '0',
      },
      'cannot use the database: connect ECONNREFUSED 127.0.0.1:1',
    ],
    [
      { ROOKERY_ADMIN_PASSWORD: 'fifteen letters' },
      'ROOKERY_ADMIN_PASSWORD must have at least 16 characters, and has 15',
    ],
    [{ ROOKERY_DATA_DIR: '/dev/null/data' }, 'cannot make the data folder /dev/null/data'],
  ])('%j: one line names it', async (settings, message) => {
    const ended = await runUntilExit({ ROOKERY_DATA_DIR: join(folder, 'data'), ...settings })
    expect(ended.status).toBe(1)
    expect(ended.stderr).toContain(`rookery: ${message}`)
    expect(ended.stderr.trim().split('\n')).toHaveLength(1)
  })
})

describe('rookery serve with other stores', () => {
  it('works on a given Postgres, with a given password', async () => {
    const database = await createTestDatabase('template1')
    const server = await begin({
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_ADMIN_PASSWORD: 'chosen by hand by the tests',
    })
    const digest = await push(server.url, 'chosen by hand by the tests', 'kept')
    expect((await fetch(`${server.url}/v2/a/b/blobs/${digest}`)).status).toBe(200)
    expect(await readdir(join(folder, 'data'))).not.toContain('postgres')
    await stopProcess(server)
    await database.drop()
  })

  it.skipIf(!AS_ROOT)('works as an ordinary user', async () => {
    await chown(folder, ORDINARY_USER, ORDINARY_USER)
    const server = await begin({ HOME: folder }, { uid: ORDINARY_USER, gid: ORDINARY_USER })
    const password = await passwordIn(join(folder, 'data'))
    const digest = await push(server.url, password, 'kept')
    expect((await fetch(`${server.url}/v2/a/b/blobs/${digest}`)).status).toBe(200)
    expect((await stat(join(folder, 'data', 'blobs'))).uid).toBe(ORDINARY_USER)
  })

  it('uses a password file that a crash left without its credential', async () => {
    const first = await begin()
    const data = join(folder, 'data')
    await stopProcess(first)
    await rm(join(data, 'postgres'), { recursive: true })
    const left = generateSecret()
    await writeFile(join(data, 'admin-password'), `${left}\n`, { mode: 0o600 })
    const second = await begin()
    await push(second.url, left, 'kept')
  })
})

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}

/** Lists processes whose command line has the folder, or that run in it. */
async function processesOf(data: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.includes(data)) found.push(command)
  }
  return found
}
