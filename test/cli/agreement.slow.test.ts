import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { createTestDatabase } from '../support/database.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startProcess, stopProcess } from '../support/server-process.ts'
import { basic, bearer, claimsOf, errorLine, printed, printedJson, pushStatus } from './operator.ts'
import { rookery } from './rookery.ts'

const NAME = 'https://registry.example.org'

let folder: string
let registry: TestRegistry

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-agreement-'))
  const masterKey = join(folder, 'key')
  await writeFile(masterKey, randomBytes(32).toString('base64'), { mode: 0o600 })
  registry = await startRegistry({
    ROOKERY_PUBLIC_URL: NAME,
    ROOKERY_MASTER_KEY_FILE: masterKey,
    ROOKERY_TOKEN_SECONDS: '60',
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '10.0.0.0/8',
  })
})

afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

/** The shell of an operator: it has the places of the registry, and no other setting of the server. */
function shell(one: TestRegistry, more: Record<string, string> = {}) {
  const { ROOKERY_DATA_DIR = '', ROOKERY_DATABASE_URL = '' } = one.settings
  return { settings: { ROOKERY_DATA_DIR, ROOKERY_DATABASE_URL, ...more } }
}

describe('a command in a shell without the settings of the server', () => {
  it('mints tokens that the server accepts, with its lifetime', async () => {
    const mint = ['token', 'mint', '--repository', 'a']
    const token = (await printed(shell(registry), ...mint)).trim()
    expect(await pushStatus(registry, 'a', bearer(token))).toBe(202)
    const { iss, iat, exp } = claimsOf(token)
    expect([iss, exp - iat]).toEqual([NAME, 60])
    const revoked = await rookery(shell(registry), ['token', 'revoke', '-'], undefined, token)
    expect(revoked.status).toBe(0)
  })

  it('prints the name of the server', async () => {
    const only = ['--repository', 'a']
    const made = await printedJson(shell(registry), 'credential', 'create', 'named', ...only)
    expect(made.url).toBe(`https://named:${made.secret}@registry.example.org`)
    const url = await printed(shell(registry), 'token', 'mint', ...only, '--url')
    expect(url).toMatch(/^https:\/\/token:[^@]+@registry\.example\.org\n$/)
    expect(await printed(shell(registry), 'upload-url', 'create', 'a:v1')).toMatch(
      /^https:\/\/registry\.example\.org\/upload\//,
    )
  })

  it('allows the networks that the server allows', async () => {
    const words = ['webhook', 'create', 'inside', 'http://10.1.2.3/hook', '--repository', 'a']
    const made = await rookery(shell(registry), words)
    expect([made.status, made.stderr]).toEqual([0, ''])
  })

  it('prints the address on which a server without a name listens', async () => {
    const unnamed = await startRegistry()
    try {
      const url = (await printed(shell(unnamed), 'upload-url', 'create', 'a:v1')).trim()
      expect(url.startsWith(`${unnamed.url}/upload/`)).toBe(true)
      expect((await fetch(url, { method: 'PUT', body: 'a file' })).status).toBe(201)
      // Its own listen address says nothing about the server.
      const listens = shell(unnamed, { ROOKERY_LISTEN: '127.0.0.1:1' })
      expect(await printed(listens, 'upload-url', 'create', 'a:v2')).toContain(unnamed.url)
      const mint = ['token', 'mint', '--repository', 'a']
      const line = await errorLine(shell(unnamed, { ROOKERY_PUBLIC_URL: NAME }), ...mint)
      expect(line).toContain('the server of this registry was started without it')
    } finally {
      await unnamed.close()
    }
  })
})

it('a command that calls a registry reads its token from a file', async () => {
  const token = (await printed(shell(registry), 'token', 'mint', '--admin')).trim()
  const file = join(folder, 'token')
  await writeFile(file, `${token}\n`, { mode: 0o600 })
  const list = ['webhook', 'list', '--registry', registry.url]
  const settings = { ROOKERY_TOKEN_FILE: file }
  expect((await rookery({ settings }, list)).status).toBe(0)
  const both = await errorLine({ settings: { ...settings, ROOKERY_TOKEN: token } }, ...list)
  expect(both).toContain('ROOKERY_TOKEN and ROOKERY_TOKEN_FILE exclude each other')
  const absent = { ROOKERY_TOKEN_FILE: join(folder, 'absent') }
  expect(await errorLine({ settings: absent }, ...list)).toContain('cannot be read (ENOENT)')
})

it('a server reads its secrets from files', async () => {
  const database = await createTestDatabase()
  const data = join(folder, 'data')
  const [url, password] = [join(folder, 'url'), join(folder, 'password')]
  await writeFile(url, `${database.url}\n`)
  await writeFile(password, 'a password from a file\r\n')
  const settings = {
    ROOKERY_DATA_DIR: data,
    ROOKERY_DATABASE_URL_FILE: url,
    ROOKERY_ADMIN_PASSWORD_FILE: password,
  }
  const server = await startProcess(settings)
  expect(server.banner).toContain(`cat '${password}' |`)
  const headers = basic('admin', 'a password from a file')
  expect((await fetch(`${server.url}/api/v1/credentials`, { headers })).status).toBe(200)
  expect(await printed({ settings }, 'credential', 'list')).toBe('There are none.\n')
  await stopProcess(server)
  await database.drop()
})

describe('a command whose settings contradict the server', () => {
  it.each([
    ['token', 'mint', '--repository', 'a'],
    ['credential', 'create', 'other', '--repository', 'a'],
    ['credential', 'list'],
    ['upload-url', 'create', 'a:v1'],
    ['webhook', 'list'],
    ['policy', 'list'],
    ['gc'],
    ['scrub'],
    ['backup', '--to', '/nowhere'],
  ])('ends with one line: %s %s', async (...words) => {
    for (const [name, value] of Object.entries({
      ROOKERY_PUBLIC_URL: 'https://other.example.org',
      ROOKERY_WEBHOOK_ALLOW_NETWORKS: '192.168.0.0/16',
    })) {
      const line = await errorLine(shell(registry, { [name]: value }), ...words)
      expect(line).toContain(`${name} is "${value}" here, and the server of this registry was`)
    }
  })

  it('works when they mean the same', async () => {
    const same = { ROOKERY_PUBLIC_URL: `${NAME}/`, ROOKERY_DEFAULT_VISIBILITY: 'public' }
    expect(await printed(shell(registry, same), 'credential', 'list')).toContain('NAME')
  })
})

it('before the first start, a command has its own settings', async () => {
  const database = await createTestDatabase()
  const settings = {
    ROOKERY_DATA_DIR: folder,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_PUBLIC_URL: 'https://later.example.org',
  }
  const url = await printed({ settings }, 'upload-url', 'create', 'a:v1')
  expect(url).toMatch(/^https:\/\/later\.example\.org\/upload\//)
  await database.drop()
})

it('a server with a new name is followed at once, and its log says that replicas must agree', async () => {
  const moved = await startRegistry({ ROOKERY_PUBLIC_URL: NAME })
  const lines: string[] = []
  const log = createLog('warn', { write: (line) => lines.push(line) })
  const name = 'https://new.example.org'
  const settings = { ...moved.settings, ROOKERY_PUBLIC_URL: name }
  const replica = await startServer(parseConfig(moved.settings), log, () => {})
  expect(lines).toEqual([])
  const server = await startServer(parseConfig(settings), log, () => {})
  expect(lines.join('')).toMatch(/"changed":\["ROOKERY_PUBLIC_URL"\].*replicas must have the same/)
  const token = (await printed(shell(moved), 'token', 'mint', '--repository', 'a')).trim()
  expect(claimsOf(token).iss).toBe(name)
  expect(await pushStatus(server, 'a', bearer(token))).toBe(202)
  await server.close()
  await replica.close()
  await moved.close()
})
