import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listEntries } from '../../src/cli/command-entry.ts'
import { COMMAND_GROUPS } from '../../src/cli/command-index.ts'
import { VERSION } from '../../src/server/version.ts'
import { build, elf } from '../cli/builder.ts'
import { printed } from '../cli/operator.ts'
import { type Ran, runFile } from '../cli/rookery.ts'
import { ROOT } from '../house/tree.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const CLIENT_BYTES_MAX = 1_000_000
const HELLO = 'sha256:415da5f4277d6bfd0fb9403683bd175f65bb7036070560f04636771001361ff3'
const SCRIPT = join(ROOT, 'scripts/bundle-client.mjs')

let registry: TestRegistry
let host: string
let folder: string
let client: string
let login: Record<string, string>

const makeClient = (file: string) => promisify(execFile)(process.execPath, [SCRIPT, file])

/** Runs the client without any setting or login of this machine. */
function run(
  words: readonly string[],
  more: Record<string, string> = {},
  input = '',
): Promise<Ran> {
  const env = { PATH: process.env.PATH, HOME: folder, DOCKER_CONFIG: folder, ...more }
  return runFile(client, words, { env, input, cwd: join(folder, 'alone') })
}

async function output(words: readonly string[], more = {}, input = ''): Promise<string> {
  const ran = await run(words, more, input)
  expect(ran, words.join(' ')).toMatchObject({ status: 0, stderr: '' })
  return ran.stdout
}

async function json(words: readonly string[], more = {}) {
  return JSON.parse(await output([...words, '--json'], more))
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-client-'))
  await mkdir(join(folder, 'alone'))
  await makeClient(join(folder, 'made.cjs'))
  // Alone in a folder, under the name of the command.
  client = join(folder, 'alone/rookery')
  await copyFile(join(folder, 'made.cjs'), client)
  await chmod(client, 0o755)
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  const words = ['token', 'mint', '--repository', '**', '--action', 'pull', '--action', 'push']
  login = { ROOKERY_TOKEN: (await printed(registry, ...words)).trim() }
})

afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

describe('the client in one file, alone in a folder', () => {
  it('pushes a build with the digest of rookery, and inspects it', async () => {
    const url = `http://admin:${registry.password}@${host}/hello/key:live`
    expect(await output(['push', build('hello-key-1'), '-'], {}, url)).toContain(HELLO)
    const shown = await json(['inspect', `${host}/hello/key:live`])
    expect(shown).toMatchObject({ digest: HELLO })
    expect(await output(['inspect', elf('mini-net.hvt')])).toMatch(/^target +hvt, ABI 2/m)
    expect(await output(['image', 'list', `${host}/hello/key`])).toContain('live')
    expect(await output(['sbom', `${host}/hello/key:live`])).toContain('CycloneDX')
    expect(await readdir(join(folder, 'alone'))).toEqual(['rookery'])
  })

  it('reports a failed build, and follows the events', async () => {
    const words = ['build', 'report', `${host}/hello/key`, build('hello-key-2'), '--exit-code', '2']
    const reported = await run(words, login)
    expect(reported).toMatchObject({ status: 0 })
    expect(await output(['build', 'list', `${host}/hello/key`], login)).toMatch(/failed/i)
    const events = await run(['events', host, '--snapshot'])
    expect(events).toMatchObject({ status: 0, stdout: expect.stringContaining('hello/key') })
  })

  it('prints the logins for a URL', async () => {
    const url = `https://orb:secret@registry.example.org/hello/key`
    expect(await output(['login-url', '-'], {}, url)).toContain('registry.example.org')
  })

  it('ends with one line when something is wrong', async () => {
    const missing = await run(['inspect', `${host}/hello/none:live`])
    expect(missing).toMatchObject({ status: 2, stdout: '' })
    expect(missing.stderr).toMatch(/^rookery: [^\n]+\n$/)
    const refused = await run(['push', build('hello-key-1'), `${host}/hello/key:live`])
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(refused.stderr).toMatch(/^rookery: [^\n]+\n$/)
    const closed = await run(['push', build('hello-key-1'), '127.0.0.1:1/hello/key:live'], login)
    expect(closed.stderr).toMatch(/^rookery: [^\n]+\n$/)
    const wrong = await run(['push', '--nonsense'])
    expect(wrong.stderr).toMatch(/^rookery: [^\n]+\nRun "rookery push --help" for usage\.\n$/)
  })

  it('has each command that needs no part of the server, and names the package for the others', async () => {
    const commands = listEntries(COMMAND_GROUPS).map(({ name, load }) => ({
      name,
      word: name.split(' ')[0] ?? '',
      isOfServer: /\/server\//.test(String(load)),
    }))
    const [absent, present] = [true, false].map(
      (isOfServer) =>
        new Set(commands.filter((one) => one.isOfServer === isOfServer).map(({ word }) => word)),
    )
    const help = await output(['--help'])
    const listed = [...help.matchAll(/^ {2}([a-z-]+) {2,}\S/gm)].map(([, word]) => word)
    expect(listed.sort()).toEqual([...(present ?? [])].sort())
    for (const word of ['serve', 'gc', 'token']) {
      expect(absent).toContain(word)
      const ran = await run([word])
      expect(ran).toMatchObject({ status: 2, stdout: '' })
      expect(ran.stderr).toContain(`"${word}" is in the package of Rookery`)
    }
    expect(await run(['webhook', 'list'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--registry HOST'),
    })
    expect(await output(['--version'])).toBe(`${VERSION}\n`)
    expect(await output(['completion', 'bash'])).not.toContain('scrub')
  })
})

describe('the file of the client', () => {
  it('has the same bytes when it is made again, and no path of this machine', async () => {
    const again = join(folder, 'again.cjs')
    await makeClient(again)
    const text = await readFile(again, 'utf8')
    expect(text).toBe(await readFile(join(folder, 'made.cjs'), 'utf8'))
    expect(text.length).toBeLessThan(CLIENT_BYTES_MAX)
    expect(text).not.toContain(ROOT)
  })

  it('has the license of each package in it, and no part of the server', async () => {
    const text = await readFile(client, 'utf8')
    const [code = '', notices = ''] = text.split(/^\/\*$/m)
    const named = [...notices.matchAll(/^([\w.@/-]+) \d+\.\d+\.\d+ \(([\w.-]+)\)$/gm)]
    expect(named.map(([, name]) => name)).toEqual([
      ...['rookery', 'commander', 'ipaddr.js', 'lru-cache', 'undici'],
    ])
    expect(
      notices.match(/^Copyright|Permission is hereby granted|Blue Oak/gm)?.length,
    ).toBeGreaterThan(4)
    for (const server of ['koa', '@aws-sdk', 'prom-client', 'pino']) {
      expect(code).not.toContain(`node_modules/${server}`)
      expect(code).not.toContain(`require("${server}")`)
    }
  })
})
