import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { forEachConcurrent } from '../../src/async/for-each.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { OTHER, report } from './reporting.ts'

const HOSTS = 300
const AT_ONCE = 8
/** Memory of the server for each host that waits. */
const KIBIBYTES_A_HOST_MAX = 150
const ANSWER_MILLISECONDS_MAX = 5_000

let folder: string
let database: TestDatabase
let server: ServerProcess
let registry: TestRegistry
let log = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-site-'))
  database = await createTestDatabase()
  // The default settings.
  const settings = {
    ROOKERY_DATA_DIR: folder,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: randomBytes(12).toString('hex'),
  }
  server = await startProcess(settings)
  server.child.stderr?.on('data', (chunk) => {
    log += chunk
  })
  registry = registryAt(server.url, folder, settings)
}, 60_000)
afterAll(async () => {
  await stopProcess(server, 'SIGKILL')
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

async function residentKibibytes(): Promise<number> {
  const status = await readFile(`/proc/${server.child.pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1])
}

/** Every host waits for something else than it knows, each third one on a stream. Returns what each of them gets next. */
async function allWait(hosts: readonly TestHost[]): Promise<Promise<string>[]> {
  const present = await Promise.all(
    hosts.map((host) => host.request(`/api/v1/hosts/${host.name}/desired`)),
  )
  return hosts.map((host, index) => {
    const path = `/api/v1/hosts/${host.name}/desired`
    return index % 3 === 0
      ? nextOfStream(host, path)
      : nextOfPoll(host, `${path}?wait=55`, present[index]?.headers.get('etag') ?? '')
  })
}

async function nextOfPoll(host: TestHost, path: string, etag: string): Promise<string> {
  const answer = await host.request(path, { headers: { 'if-none-match': etag } })
  return answer.status === 200 ? answer.text() : String(answer.status)
}

/** Returns the second event of a stream; the first one has what the host should run at its beginning. */
async function nextOfStream(host: TestHost, path: string): Promise<string> {
  const answer = await host.request(path, { headers: { accept: 'text/event-stream' } })
  if (answer.status !== 200 || answer.body === null) return String(answer.status)
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of answer.body) {
    text += decoder.decode(chunk, { stream: true })
    const second = text.split('event: desired\n')[2]
    if (second?.includes('\n\n')) return second
  }
  return 'ended'
}

async function waitingHosts(): Promise<number> {
  const metrics = await (await registry.request('/metrics')).text()
  return Number(/^rookery_waiting_hosts (\d+)$/m.exec(metrics)?.[1])
}

it('300 hosts of one address wait at once with the default settings, and a push answers all of them', async () => {
  const repository = newRepository()
  await pushBuild(registry, repository, 'live')
  const hosts: TestHost[] = []
  await forEachConcurrent(
    Array.from({ length: HOSTS }, (_, index) => `site-${index}`),
    AT_ONCE,
    async (name) => {
      const host = await enrolHost(registry, { name, repositories: [repository] })
      await report(host, { follows: { repository, tag: 'live' } })
      hosts.push(host)
    },
  )
  const before = await residentKibibytes()
  const waiting = await allWait(hosts)
  await expect.poll(waitingHosts, { timeout: 20_000 }).toBe(HOSTS)
  expect((await residentKibibytes()) - before).toBeLessThan(HOSTS * KIBIBYTES_A_HOST_MAX)
  const digest = await pushBuild(registry, repository, 'live', OTHER)
  const pushed = performance.now()
  const answers = await Promise.all(waiting)
  expect(performance.now() - pushed).toBeLessThan(ANSWER_MILLISECONDS_MAX)
  expect(answers.filter((answer) => !answer.includes(digest))).toEqual([])
  expect(await residentKibibytes()).toBeLessThan(before + HOSTS * KIBIBYTES_A_HOST_MAX)
  // The end of the server answers all that wait, too.
  const ending = await allWait(hosts)
  await expect.poll(waitingHosts, { timeout: 20_000 }).toBe(HOSTS)
  expect(await stopProcess(server)).toBe(0)
  expect(new Set(await Promise.all(ending))).toEqual(new Set(['304', 'ended']))
  const isInformation = (line: string) => line === '' || line.includes('"level":"info"')
  expect(log.split('\n').filter((line) => !isInformation(line))).toEqual([])
}, 180_000)
