import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { makeCredential } from '../auth/credentials-client.ts'
import { fixtureOf, pushBuild } from '../images/image-fixtures.ts'
import { registryAt } from '../support/process-registry.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const DOCUMENT = readFileSync(new URL('../../docs/deploy.md', import.meta.url), 'utf8')
const EXAMPLES = fileURLToPath(new URL('../../docs/examples/', import.meta.url))

let folder: string
let settings: Record<string, string>
let server: ServerProcess
let registry: TestRegistry
let state: string
let running: ChildProcess | undefined

async function serve(listen: string): Promise<void> {
  server = await startProcess({ ...settings, ROOKERY_LISTEN: listen })
  registry = registryAt(server.url, folder, settings)
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-deploy-'))
  // Postgres may run as another user.
  await chmod(folder, 0o755)
  settings = {
    ROOKERY_DATA_DIR: join(folder, 'data'),
    ROOKERY_ADMIN_PASSWORD: 'from build to host',
    ROOKERY_LOG_LEVEL: 'silent',
  }
  await serve('127.0.0.1:0')
  // The only fake: it logs its arguments.
  await mkdir(join(folder, 'bin'))
  await writeFile(
    join(folder, 'bin', 'systemctl'),
    '#!/bin/sh\necho "$*" >> "$RESTARTS"\n[ "$(wc -l < "$RESTARTS")" -gt "$FAIL_UNTIL" ]\n',
  )
  await chmod(join(folder, 'bin', 'systemctl'), 0o755)
})

beforeEach(async () => {
  state = await mkdtemp(join(folder, 'state-'))
})

afterEach(async () => {
  if (running?.pid !== undefined) process.kill(-running.pid, 'SIGKILL')
  running = undefined
})

afterAll(async () => {
  await stopProcess(server)
  await rm(folder, { recursive: true, force: true })
})

function run(script: string, repository: string, url = server.url, environment = {}): void {
  running = spawn('sh', [join(EXAMPLES, script), url, repository, 'live', 'hvt', 'www'], {
    // In a process group of its own, so that its curl ends with it.
    detached: true,
    stdio: 'ignore',
    env: {
      PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
      STATE_DIRECTORY: state,
      RESTARTS: join(state, 'restarts'),
      WAIT_SECONDS: '1',
      FAIL_UNTIL: '0',
      ...environment,
    },
  })
}

/** Runs a script until it has printed an error with this text, and returns all that it printed. */
async function errorsOf(script: string, words: readonly string[], text: string): Promise<string> {
  const child = spawn('sh', [join(EXAMPLES, script), ...words, 'www'], {
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
      STATE_DIRECTORY: state,
      RESTARTS: join(state, 'restarts'),
      FAIL_UNTIL: '0',
    },
  })
  running = child
  let printed = ''
  child.stderr.on('data', (chunk) => {
    printed += chunk
  })
  // curl writes a line in pieces.
  const wholeLines = () => printed.slice(0, printed.lastIndexOf('\n') + 1)
  await expect.poll(wholeLines, { timeout: 20_000 }).toContain(text)
  return wholeLines()
}

const restarts = async (): Promise<string[]> =>
  existsSync(join(state, 'restarts'))
    ? (await readFile(join(state, 'restarts'), 'utf8')).trim().split('\n')
    : []

const restarted = (count: number, seconds = 20) =>
  expect
    .poll(async () => (await restarts()).length, { timeout: seconds * 1000, interval: 100 })
    .toBe(count)

const kernel = () => readFile(join(state, 'www.hvt'))
const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

it('the document quotes the scripts exactly', () => {
  for (const name of ['follow.sh', 'poll.sh']) {
    expect(DOCUMENT).toContain(readFileSync(join(EXAMPLES, name), 'utf8'))
  }
})

describe.each(['follow.sh', 'poll.sh'])('%s', (script) => {
  it('runs the kernel of the tag, and its next kernel, and nothing twice', async () => {
    const repository = `deploy/${script.slice(0, -3)}`
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    run(script, repository)
    await restarted(1)
    expect(await restarts()).toEqual(['restart unikernel@www'])
    expect((await kernel()).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    await restarted(2)
    expect((await kernel()).equals(fixtureOf('hello-key-2', 'kernel'))).toBe(true)
    // Another tag, another repository, and the same kernel again: no restart.
    await pushBuild(registry, repository, 'other', 'hello-key-1')
    await pushBuild(registry, `${repository}-2`, 'live', 'hello-key-1')
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    await pause(3_000)
    expect(await restarts()).toHaveLength(2)
    const rollback = `/api/v1/repositories/${repository}/tags/live/rollback`
    expect((await registry.request(rollback, { method: 'POST' })).status).toBe(200)
    await restarted(3)
    expect((await kernel()).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
    // The tag is deleted: the kernel stays, and continues to run.
    const tag = `/v2/${repository}/manifests/live`
    expect((await registry.request(tag, { method: 'DELETE' })).status).toBe(202)
    await pause(3_000)
    expect(await restarts()).toHaveLength(3)
    expect((await kernel()).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
  })

  it('continues after an outage of the registry, with the moves that it missed', async () => {
    const repository = `away/${script.slice(0, -3)}`
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    run(script, repository)
    await restarted(1)
    const listen = new URL(server.url).host
    await stopProcess(server)
    await pause(1_500)
    await serve(listen)
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    await restarted(2, 40)
    expect((await kernel()).equals(fixtureOf('hello-key-2', 'kernel'))).toBe(true)
  })

  it('retries a restart that failed', async () => {
    const repository = `failing/${script.slice(0, -3)}`
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    run(script, repository, server.url, { FAIL_UNTIL: '2' })
    await restarted(3, 60)
    await pause(3_000)
    expect(await restarts()).toHaveLength(3)
  })

  it('states how it is called', () => {
    const { status, stderr } = spawnSync('sh', [join(EXAMPLES, script), server.url], {
      encoding: 'utf8',
    })
    expect(status).toBe(2)
    expect(stderr).toBe(`usage: ${script} REGISTRY REPOSITORY TAG TARGET NAME\n`)
  })

  it.each([
    ['tag', { tag: 'love' }, /: \w+ \w+/],
    ['target', { target: 'spt' }, /: live has no such kernel, but hvt/],
    ['repository', { repository: 'wrong/name' }, /: \w+ \w+/],
  ])('says which address failed, and why: a wrong %s', async (_what, wrong, reason) => {
    const right = { repository: `wrong/${script.slice(0, -3)}`, tag: 'live', target: 'hvt' }
    await pushBuild(registry, right.repository, right.tag, 'hello-key-1')
    const { repository, tag, target } = { ...right, ...wrong }
    const printed = await errorsOf(script, [server.url, repository, tag, target], `${script}: `)
    const path = `api/v1/repositories/${repository}/images/${tag}/kernel?target=${target}`
    const start = `${script}: ${server.url}/${path}`
    const line = printed.split('\n').find((one) => one.startsWith(start))
    expect(line?.slice(start.length)).toMatch(reason)
    expect(await restarts()).toEqual([])
  })

  it('says which registry did not answer', async () => {
    const printed = await errorsOf(
      script,
      ['http://127.0.0.1:1', 'builds/www', 'live', 'hvt'],
      'curl:',
    )
    expect(printed).toContain('127.0.0.1 port 1')
  })

  it('pulls from a private repository with a login', async () => {
    const repository = `private/${script.slice(0, -3)}`
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    const settings = await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ visibility: 'private' }),
    })
    expect(settings.status).toBe(200)
    const { name, secret } = await makeCredential(registry, {
      repositories: [repository],
      actions: ['pull'],
    })
    const { hostname } = new URL(server.url)
    const file = join(state, 'netrc')
    await writeFile(file, `machine ${hostname} login ${name} password ${secret}\n`)
    run(script, repository, server.url, { NETRC: file })
    await restarted(1)
    expect((await kernel()).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
    await pushBuild(registry, repository, 'live', 'hello-key-2')
    await restarted(2)
  })

  it.each(['body', 'headers'])('never runs half a kernel, cut off in its %s', async (part) => {
    const repository = `cut/${part}-${script.slice(0, -3)}`
    await pushBuild(registry, repository, 'live', 'hello-key-1')
    // Cuts off kernels while `cutting` is true.
    let cutting = false
    let cuts = 0
    const proxy = createServer(async (req, res) => {
      const headers = Object.fromEntries(
        Object.entries(req.headers).filter(([name]) => name !== 'host'),
      ) as Record<string, string>
      const answer = await fetch(new URL(req.url ?? '', server.url), { headers })
      const isCut = req.url?.includes('/kernel') && answer.status === 200 && cutting
      if (isCut && part === 'headers') {
        cuts += 1
        // curl takes it for an empty answer.
        res.socket?.end('HTTP/1.1 200 OK\r\nContent-Ty')
        return
      }
      res.writeHead(answer.status, Object.fromEntries(answer.headers))
      if (isCut) {
        const bytes = Buffer.from(await answer.arrayBuffer())
        cuts += 1
        res.write(bytes.subarray(0, bytes.length / 2), () => setTimeout(() => res.destroy(), 100))
        return
      }
      try {
        for await (const chunk of answer.body ?? []) res.write(chunk)
      } catch {
        // The client closed the connection.
      }
      res.end()
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    const { port } = proxy.address() as { port: number }
    try {
      run(script, repository, `http://127.0.0.1:${port}`)
      await restarted(1)
      cutting = true
      await pushBuild(registry, repository, 'live', 'hello-key-2')
      await expect.poll(() => cuts, { timeout: 20_000 }).toBeGreaterThan(0)
      await pause(500)
      expect(await restarts()).toHaveLength(1)
      expect((await kernel()).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
      cutting = false
      await restarted(2, 40)
      expect((await kernel()).equals(fixtureOf('hello-key-2', 'kernel'))).toBe(true)
    } finally {
      proxy.closeAllConnections()
      proxy.close()
    }
  })
})
