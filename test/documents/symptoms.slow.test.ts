import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
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

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-symptoms-'))
    database = await createTestDatabase()
    const settings = {
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_ADMIN_PASSWORD: PASSWORD,
      ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
    }
    server = await startProcess(settings)
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
