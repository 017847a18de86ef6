import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Agent, request } from 'undici'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { KillableServer, PASSWORD } from '../process-faults/killable-server.ts'
import { digestOf } from '../support/digest.ts'
import { basic } from '../support/raw-client.ts'

const ADMIN = basic(PASSWORD)
const MANIFEST = JSON.stringify({
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf('{}'), size: 2 },
  layers: [],
})
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'
const CLIENTS = 8
const FEED_CLIENTS = 4

/** The processes below a process that run a module with this name. */
function childrenOf(pid: number, module: string): number[] {
  const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => {
    const [, child, parent, command = ''] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? []
    return Number(parent) === pid && command.includes(module) ? [Number(child)] : []
  })
}

let server: KillableServer

async function start(
  settings: Record<string, string> = {},
  database: 'external' | 'embedded' = 'external',
) {
  server = await KillableServer.create(database, {
    ...{ ROOKERY_WORKERS: '2', ROOKERY_DRAIN_SECONDS: '10', ROOKERY_LOG_LEVEL: 'info' },
    ...settings,
  })
  await server.start()
}

const workers = () => childrenOf(server.pid, 'worker-entry')

/** Sends a request on a connection of its own: workers take turns with connections. */
async function ask(path: string, options: Record<string, unknown> = {}, authorization = ADMIN) {
  const dispatcher = new Agent({ pipelining: 0 })
  try {
    const headers = { authorization, ...(options.headers as object) }
    const answer = await request(server.url + path, { ...options, headers, dispatcher })
    return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() }
  } finally {
    await dispatcher.close()
  }
}

async function pushImage(repository: string, tag: string): Promise<void> {
  const empty = `/v2/${repository}/blobs/uploads/?digest=${digestOf('{}')}`
  expect(await ask(empty, { method: 'POST', body: '{}' })).toMatchObject({ status: 201 })
  const put = { method: 'PUT', body: MANIFEST, headers: { 'content-type': MANIFEST_TYPE } }
  expect(await ask(`/v2/${repository}/manifests/${tag}`, put)).toMatchObject({ status: 201 })
}

/** Clients that pull a manifest again and again, on connections that they keep. Returns what failed, and how many pulls succeeded. */
function pullUntil(end: AbortSignal, path: string) {
  const counts = { pulled: 0, failures: [] as string[] }
  const client = async () => {
    const dispatcher = new Agent({ connections: 1, pipelining: 1 })
    while (!end.aborted) {
      try {
        const options = { dispatcher, headers: { authorization: ADMIN, accept: MANIFEST_TYPE } }
        const { statusCode, body } = await request(server.url + path, options)
        await body.dump()
        if (statusCode === 200) counts.pulled += 1
        else counts.failures.push(`status ${statusCode}`)
      } catch (error) {
        counts.failures.push(String(error))
      }
    }
    await dispatcher.close()
  }
  const done = Promise.all(Array.from({ length: CLIENTS }, client))
  return { counts, done }
}

describe('a server with two workers', () => {
  beforeAll(async () => {
    await start({
      ROOKERY_FEED_CLIENTS_PER_ADDRESS: String(FEED_CLIENTS),
    })
    await pushImage('two/workers', 'live')
  }, 60_000)
  afterAll(() => server.dispose())

  it('answers by both of them', async () => {
    expect(workers()).toHaveLength(2)
    for (let count = 0; count < 6; count += 1) {
      const pulled = await ask('/v2/two/workers/manifests/live', {
        headers: { accept: MANIFEST_TYPE },
      })
      expect(pulled).toMatchObject({ status: 200, text: MANIFEST })
    }
    const { text } = await ask('/metrics')
    const answered =
      /^rookery_http_requests_total\{method="GET",route="[^"]*manifests[^"]*",status="200"\} (\d+)$/m
    // All of them, wherever they were answered.
    expect(Number(answered.exec(text)?.[1])).toBe(6)
    expect(text).toMatch(/^rookery_build_info\{[^}]*\} 1$/m)
  })

  it('a revoked credential is refused by both at once', async () => {
    for (let count = 0; count < 4; count += 1) {
      const made = await ask('/api/v1/credentials', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          name: `c${count}-${randomBytes(3).toString('hex')}`,
          repositories: ['**'],
          actions: ['pull'],
        }),
      })
      expect(made.status, made.text).toBe(201)
      const { name, secret } = JSON.parse(made.text)
      const login = `Basic ${Buffer.from(`${name}:${secret}`).toString('base64')}`
      // Both have it in their cache.
      for (let used = 0; used < 4; used += 1)
        expect((await ask('/v2/', {}, login)).status).toBe(200)
      expect((await ask(`/api/v1/credentials/${name}`, { method: 'DELETE' })).status).toBe(204)
      for (let used = 0; used < 4; used += 1)
        expect((await ask('/v2/', {}, login)).status).toBe(401)
    }
  })

  it('wrong passwords count together', async () => {
    const statuses: number[] = []
    for (let count = 0; count < 24; count += 1) {
      const guess = basic(`a wrong password ${count}`)
      statuses.push((await ask('/v2/', {}, guess)).status)
      await delay(30)
    }
    // 20 are free, as with one process.
    expect(statuses.filter((status) => status === 401)).toHaveLength(20)
    expect(statuses.slice(-2)).toEqual([429, 429])
  })

  it('streams of an address count together', async () => {
    const open: Agent[] = []
    const stream = async () => {
      const dispatcher = new Agent({ pipelining: 0 })
      open.push(dispatcher)
      const headers = { authorization: ADMIN, accept: 'text/event-stream' }
      const answer = await request(`${server.url}/api/v1/events`, { headers, dispatcher })
      // The other worker knows of it a moment later.
      await delay(400)
      return answer.statusCode
    }
    try {
      for (let count = 0; count < FEED_CLIENTS; count += 1) expect(await stream()).toBe(200)
      for (let count = 0; count < 4; count += 1) expect(await stream()).toBe(429)
    } finally {
      await Promise.all(open.map((one) => one.destroy()))
    }
  })

  it('a worker that is killed is replaced, and every acknowledged push is there', async () => {
    const [victim, other] = workers()
    if (victim === undefined || other === undefined) throw new Error('there are no two workers')
    const pushed: string[] = []
    const end = new AbortController()
    const pushing = (async () => {
      for (let count = 0; !end.signal.aborted; count += 1) {
        // A push that the kill cut off fails, and is no promise.
        await pushImage('two/workers', `t${count}`).then(
          () => pushed.push(`t${count}`),
          () => {},
        )
      }
    })()
    await delay(500)
    process.kill(victim, 'SIGKILL')
    await expect.poll(workers, { timeout: 20_000, interval: 200 }).toHaveLength(2)
    await expect.poll(() => workers().includes(victim)).toBe(false)
    expect(workers()).toContain(other)
    await delay(1000)
    end.abort()
    await pushing
    const { text } = await ask('/v2/two/workers/tags/list')
    expect(JSON.parse(text).tags).toEqual(expect.arrayContaining(pushed))
    expect(pushed.length).toBeGreaterThan(2)
    expect(server.errors).toContain('a worker ended, starting another')
  }, 60_000)

  it('SIGHUP replaces the workers one after the other, and no request fails', async () => {
    const before = workers()
    const end = new AbortController()
    const { counts, done } = pullUntil(end.signal, '/v2/two/workers/manifests/live')
    await delay(500)
    process.kill(server.pid, 'SIGHUP')
    const replaced = () => workers().filter((pid) => before.includes(pid))
    await expect.poll(replaced, { timeout: 40_000, interval: 200 }).toEqual([])
    await expect.poll(() => server.errors, { timeout: 10_000 }).toContain('replaced the workers')
    await delay(500)
    end.abort()
    await done
    expect(counts.failures).toEqual([])
    expect(counts.pulled).toBeGreaterThan(100)
    expect(workers()).toHaveLength(2)
  }, 90_000)
})

describe('the end of a server with workers', () => {
  afterEach(() => server.dispose())

  it('after SIGTERM it says that it is not ready, answers meanwhile, and ends with all its processes', async () => {
    await start({ ROOKERY_DRAIN_DELAY_SECONDS: '2' })
    const all = workers()
    expect((await ask('/readyz')).status).toBe(200)
    process.kill(server.pid, 'SIGTERM')
    await delay(500)
    expect((await ask('/readyz')).status).toBe(503)
    expect((await ask('/v2/')).status).toBe(200)
    expect(await server.ended()).toBe(0)
    for (const pid of all) expect(() => process.kill(pid, 0)).toThrow()
  }, 60_000)

  it('a primary that is killed takes its workers with it, and starts again on the same data', async () => {
    await start({}, 'embedded')
    await pushImage('two/workers', 'live')
    const all = workers()
    expect(all).toHaveLength(2)
    process.kill(server.pid, 'SIGKILL')
    await server.ended()
    const left = () => all.filter((pid) => isAlive(pid))
    await expect.poll(left, { timeout: 20_000, interval: 200 }).toEqual([])
    await server.start()
    expect((await ask('/v2/two/workers/manifests/live')).status).toBe(200)
  }, 90_000)

  it('a worker that cannot start ends the server with one line', async () => {
    server = await KillableServer.create('external', { ROOKERY_WORKERS: '65' })
    await expect(server.start()).rejects.toThrow(
      'ROOKERY_WORKERS must be auto, or a whole number from 1 to 64',
    )
  })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
