import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { expect } from 'vitest'
import { DATABASE, USER } from '../../src/embedded-postgres/settings.ts'
import { createTestDatabase } from '../support/database.ts'
import {
  type ServerProcess,
  type Settings,
  startProcess,
  stopProcess,
} from '../support/server-process.ts'

export const PASSWORD = 'durable by the tests'

/** A registry in a process of its own that a test can kill and start again on the same data. */
export class KillableServer {
  readonly folder: string
  readonly #settings: Settings
  readonly #databaseUrl: string | undefined
  readonly #dropDatabase: () => Promise<void>
  #running: ServerProcess | undefined
  #errors = ''

  private constructor(
    folder: string,
    settings: Settings,
    databaseUrl: string | undefined,
    dropDatabase: () => Promise<void>,
  ) {
    this.folder = folder
    this.#databaseUrl = databaseUrl
    this.#dropDatabase = dropDatabase
    this.#settings = {
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_ADMIN_PASSWORD: PASSWORD,
      ROOKERY_LOG_LEVEL: 'warn',
      ...(databaseUrl === undefined ? {} : { ROOKERY_DATABASE_URL: databaseUrl }),
      ...settings,
    }
  }

  static async create(
    database: 'embedded' | 'external',
    settings: Settings = {},
  ): Promise<KillableServer> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-durability-'))
    // The embedded Postgres may run as another user.
    await chmod(folder, 0o755)
    if (database === 'embedded') {
      return new KillableServer(folder, settings, undefined, async () => {})
    }
    const external = await createTestDatabase()
    return new KillableServer(folder, settings, external.url, external.drop)
  }

  get url(): string {
    return this.#started().url
  }

  get data(): string {
    return join(this.folder, 'data')
  }

  /** Standard error since the last start. */
  get errors(): string {
    return this.#errors
  }

  get pid(): number {
    return this.#started().child.pid ?? 0
  }

  async start(): Promise<void> {
    this.#errors = ''
    this.#running = await startProcess(this.#settings)
    this.#running.child.stderr?.on('data', (chunk) => {
      this.#errors += chunk
    })
  }

  /** Sends the signal and does not wait. */
  signal(name: NodeJS.Signals): void {
    this.#started().child.kill(name)
  }

  /** Resolves when the process has ended and its output was read, with its exit status. */
  async ended(): Promise<number | null> {
    const { child } = this.#started()
    const isEnded = () => child.exitCode !== null || child.signalCode !== null
    if (!isEnded()) await once(child, 'exit')
    if (child.stderr?.closed === false) await once(child.stderr, 'close')
    return child.exitCode
  }

  async postmaster(): Promise<number> {
    return Number((await this.#postmasterFile())[0])
  }

  /** Opens a connection to the server's own database. */
  async database(): Promise<pg.Client> {
    const connection = this.#databaseUrl ?? (await this.#embeddedConnection())
    const client = new pg.Client(connection)
    await client.connect()
    return client
  }

  async dispose(): Promise<void> {
    if (this.#running !== undefined) await stopProcess(this.#running)
    await this.#dropDatabase()
    await rm(this.folder, { recursive: true, force: true })
  }

  expectNoErrors(): void {
    expect(this.#errors).not.toMatch(/"level":"error"|^\s+at /m)
  }

  #started(): ServerProcess {
    if (this.#running === undefined) throw new Error('the server was not started')
    return this.#running
  }

  async #embeddedConnection() {
    const [, , , port, host = ''] = await this.#postmasterFile()
    return { host, port: Number(port), user: USER, database: DATABASE }
  }

  /** |pid|data folder|start time|port|socket folder|…, one a line. */
  async #postmasterFile(): Promise<string[]> {
    const file = join(this.data, 'postgres', 'cluster', 'postmaster.pid')
    return (await readFile(file, 'utf8')).split('\n')
  }
}
