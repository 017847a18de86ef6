import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import {
  runUntilExit,
  type ServerProcess,
  startProcess,
  stopProcess,
} from '../support/server-process.ts'
import { listSymptoms, quoted } from './symptoms.ts'

const PASSWORD = 'pulled out of a hat'
const WEBHOOK = 'receiver'
const COMMAND_MILLISECONDS_MAX = 60_000
/** A command found a problem, which is why the reader runs it. */
const STATUSES = [0, 1]
const commands = [...new Set(listSymptoms().flatMap(({ command }) => quoted(command)))]
/** The registry of the test has no embedded Postgres, no generated password, and no backup to restore. */
const OF_ANOTHER_STATE = /^rookery (?:upgrade-database|restore)\b|data\/(?:postgres|admin-password)/
const programs = commands.filter((text) => /^(?:rookery|curl|du|df|ls|cat) /.test(text))
const questions = commands.filter((text) => /^(?:select|show) /.test(text))

describe('a reader in trouble runs every command of the symptoms', () => {
  let folder: string
  let database: TestDatabase
  let server: ServerProcess
  let repository: string
  let settings: Record<string, string>
  let log = ''

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-symptoms-'))
    database = await createTestDatabase()
    settings = {
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_ADMIN_PASSWORD: PASSWORD,
      ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
    }
    server = await startProcess(settings)
    server.child.stderr?.on('data', (chunk) => {
      log += chunk
    })
    const registry = registryAt(server.url, folder, settings)
    repository = newRepository()
    const manifest = await pushImageBlobs(registry, repository)
    expect((await putManifest(registry, repository, 'live', manifest)).status).toBe(201)
    for (const command of [
      `rookery webhook create ${WEBHOOK} --repository 'builds/**' http://127.0.0.1:8443/hook`,
      'rookery credential create orb-1 --repository "builds/**" --action pull',
    ]) {
      const { status, output } = await run(command)
      expect(status, output).toBe(0)
    }
  })
  afterAll(async () => {
    if (server !== undefined) await stopProcess(server)
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  it('which are many', () => {
    expect(programs.length).toBeGreaterThan(25)
    expect(questions.length).toBeGreaterThan(2)
  })

  it.each(programs.filter((text) => !OF_ANOTHER_STATE.test(text)))('%s', async (text) => {
    const name = text.startsWith('rookery credential') ? 'orb-1' : WEBHOOK
    const command = text
      .replace('REPOSITORY', repository)
      .replace(':TAG', ':live')
      .replace(/\bNAME\b/, name)
    const { status, output } = await run(command)
    // No host follows the tag.
    if (status === 2 && output.includes('has no deployment')) return
    expect(STATUSES, `${command}\n${output}`).toContain(status)
    expect(output).not.toMatch(/unknown (?:command|option)/)
  })

  it.each(questions)('%s', async (text) => {
    const client = new pg.Client(database.url)
    await client.connect()
    const { rows } = await client.query(text).finally(() => client.end())
    expect(rows.length).toBeGreaterThan(0)
  })

  it.each([
    ['is not a setting', () => ({ ROOKERY_NONSENSE: 'on' })],
    ['cannot listen on', () => ({ ROOKERY_LISTEN: new URL(server.url).host })],
    ['cannot use the database:', () => ({ ROOKERY_DATABASE_URL: `${database.url}_missing` })],
    ['has no mark of an installation', () => ({ ROOKERY_DATA_DIR: join(folder, 'another') })],
    ['is missing, and the database has keys', () => ({ ROOKERY_MASTER_KEY_FILE: '/missing' })],
    ['is readable by every user of this machine', () => ({ ROOKERY_MASTER_KEY_FILE: publicKey() })],
  ])('a server that does not start prints: %s', async (sign, changed) => {
    expect(listSymptoms().flatMap((symptom) => quoted(symptom.sign))).toContain(sign)
    const { status, stderr } = await runUntilExit({ ...settings, ...changed() })
    expect([status, stderr.trim().split('\n').at(-1)]).toEqual([1, expect.stringContaining(sign)])
  })

  function publicKey(): string {
    const file = join(folder, 'public-key')
    writeFileSync(file, randomBytes(32).toString('base64'), { mode: 0o644 })
    return file
  }

  it('the log says why /readyz is 503: the mark of another store', async () => {
    const mark = join(folder, 'data/blobs/installation')
    const right = await readFile(mark)
    await writeFile(mark, '3f0e9c1a-6b1d-4c62-9f38-0d1f7f4c5a11')
    await expect.poll(isReady).toBe(false)
    await expect
      .poll(() => reasons(/^the folder \S+ belongs to the installation 3f0e/))
      .not.toEqual([])
    await writeFile(mark, right)
    await expect.poll(isReady).toBe(true)
  })

  // The last one: the database is gone.
  it('the log says why /readyz is 503: no database', async () => {
    await database.drop()
    await expect.poll(isReady).toBe(false)
    await expect.poll(() => reasons(/^database "\w+" does not exist/)).not.toEqual([])
  })

  /** Returns the reasons behind the message of /readyz in the log. */
  const reasons = (pattern: RegExp) =>
    [...log.matchAll(/the database or the storage does not answer[^:"]*: ((?:[^"\\]|\\.)*)"/g)]
      .map(([, reason = '']) => JSON.parse(`"${reason}"`) as string)
      .filter((reason) => pattern.test(reason))

  async function isReady(): Promise<boolean> {
    return (await fetch(`${server.url}/readyz`)).ok
  }

  async function run(command: string): Promise<{ status: number; output: string }> {
    const host = new URL(server.url).host
    const token = 'export ROOKERY_TOKEN=$(rookery token mint --admin --ttl 1h)'
    const script = command.includes('$HOST') ? `${token}\n${command}` : command
    const env = {
      PATH: `${join(ROOT, 'bin')}:${process.env.PATH}`,
      HOME: folder,
      ROOKERY_DATABASE_URL: database.url,
      HOST: host,
      REGISTRY: server.url,
      BACKUP: join(folder, 'backup'),
      NO_PROXY: '127.0.0.1',
    }
    const options = { cwd: folder, env, timeout: COMMAND_MILLISECONDS_MAX }
    return new Promise((resolve) => {
      execFile('bash', ['-c', script], options, (error, stdout, stderr) =>
        resolve({ status: Number(error?.code ?? 0), output: stdout + stderr }),
      )
    })
  }
})
