import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { eventBodies } from '../support/events.ts'
import { registryAt } from '../support/process-registry.ts'
import { pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { rookery } from './rookery.ts'

const CURSOR = /^rookery: continue with --after ([0-9a-f]{32})\n$/
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

let database: TestDatabase
let folder: string
let settings: Record<string, string>
let server: ServerProcess
let registry: TestRegistry
let host: string

async function serve(listen: string): Promise<void> {
  server = await startProcess({ ...settings, ROOKERY_LISTEN: listen })
  registry = registryAt(server.url, folder, settings)
  host = new URL(server.url).host
}

beforeAll(async () => {
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-events-'))
  settings = {
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: 'tell me by the tests',
    ROOKERY_LOG_LEVEL: 'silent',
  }
  await serve('127.0.0.1:0')
})

afterAll(async () => {
  await stopProcess(server)
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

const events = (...words: string[]) => rookery({ settings: {} }, ['events', host, ...words])

/** Starts the command. Returns its process and its output so far. */
function following(...words: string[]) {
  const child = spawn(process.execPath, [MAIN, 'events', host, '--follow', ...words])
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  return {
    output,
    lines: () => output.stdout.split('\n').filter((line) => line !== ''),
    async interrupt() {
      child.kill('SIGINT')
      const [status] = await once(child, 'close')
      return status
    },
  }
}

describe('rookery events', () => {
  it('shows the tags, and the events since a cursor', async () => {
    await pushImage(registry, 'a/b', 'v1')
    const snapshot = await events('--snapshot', '--repository', 'a/*')
    expect(snapshot.status).toBe(0)
    expect(snapshot.stderr).toMatch(CURSOR)
    expect(snapshot.stdout).toMatch(
      /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ {2}a\/b:v1 {2}is at sha256:[0-9a-f]{12}\n$/,
    )
    const page = (await (await registry.anonymous('/api/v1/events')).json()) as { cursor: string }
    await pushImage(registry, 'a/b', 'v1')
    await pushImage(registry, 'c/d', 'v1')
    await expect
      .poll(async () => (await events('--after', page.cursor)).stdout.split('\n').length)
      .toBe(5)
    const since = await events(
      '--after',
      page.cursor,
      '--repository',
      'a/b',
      '--type',
      'image.tag.updated',
    )
    expect(since.stdout).toMatch(
      /^\S+ {2}a\/b:v1 {2}moved to sha256:[0-9a-f]{12} from sha256:[0-9a-f]{12}\n$/,
    )
  })

  it('prints its last cursor, and continues from it', async () => {
    const now = await events()
    expect(now).toMatchObject({ status: 0, stdout: '' })
    const cursor = CURSOR.exec(now.stderr)?.[1] ?? ''
    for (const tag of ['v1', 'v2', 'v3']) await pushImage(registry, 'p/q', tag)
    await eventBodies(registry, 'p/q', 6)
    const since = await events('--after', cursor, '--type', 'image.tag.updated', '--json')
    expect(since.stderr).toBe('')
    const lines = since.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines.map(({ subject }) => subject)).toEqual(['p/q:v1', 'p/q:v2', 'p/q:v3', undefined])
    const rest = await events('--after', lines.at(-1).cursor, '--json')
    expect(rest.stdout).toMatch(/^\{"cursor":"[0-9a-f]{32}"\}\n$/)
  })

  it('follows events over a restart of the registry, each event once', async () => {
    const follower = following('--json', '--type', 'image.tag.updated', '--snapshot')
    await expect.poll(() => follower.lines().length, { timeout: 10_000 }).toBeGreaterThan(0)
    await pushImage(registry, 'f/g', 'before')
    const subjects = () =>
      follower
        .lines()
        .map((line) => JSON.parse(line).subject)
        .filter((subject) => subject !== undefined)
    await expect.poll(subjects, { timeout: 10_000 }).toEqual(['f/g:before'])
    const listen = new URL(server.url).host
    await stopProcess(server)
    await expect.poll(() => follower.output.stderr, { timeout: 30_000 }).toMatch(/; reconnecting/)
    await serve(listen)
    await pushImage(registry, 'f/g', 'after')
    await expect.poll(subjects, { timeout: 40_000 }).toEqual(['f/g:before', 'f/g:after'])
    expect(follower.output.stderr.match(/; reconnecting/g)).toHaveLength(1)
    expect(follower.output.stderr).toContain('rookery: reconnected')
    expect(await follower.interrupt()).toBe(0)
    expect(JSON.parse(follower.lines().at(-1) ?? '')).toEqual({
      cursor: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
  }, 120_000)

  it.each([
    [['events'], /missing required argument "HOST"/],
    [['events', '127.0.0.1:1'], /nothing listens at 127\.0\.0\.1:1/],
  ])('%j is refused in one line', async (words, message) => {
    const ran = await rookery({ settings: {} }, words)
    expect(ran.status).toBe(2)
    expect(ran.stderr).toMatch(message)
  })

  it('reports a wrong cursor or type', async () => {
    const cursor = await events('--after', 'yesterday')
    expect(cursor).toMatchObject({ status: 2, stdout: '' })
    expect(cursor.stderr).toContain('a cursor must be the one of an event or a page')
    const type = await events('--type', 'image.burnt')
    expect(type.stderr).toContain('type must be one of image.pushed')
  })
})
