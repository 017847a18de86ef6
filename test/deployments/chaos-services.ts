import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { findBinaries } from '../../src/embedded-postgres/binaries.ts'
import { dataArgument, prepareCluster } from '../../src/embedded-postgres/cluster.ts'
import {
  type ClusterPlan,
  connectOrStart,
  identityOf,
} from '../../src/embedded-postgres/connect-or-start.ts'
import { preparePostgresFolder } from '../../src/embedded-postgres/folder.ts'
import { stopPostmaster } from '../../src/embedded-postgres/postmaster.ts'
import { prepareDatabase } from '../../src/embedded-postgres/roles.ts'
import { prepareRuntime } from '../../src/embedded-postgres/runtime.ts'
import { DATABASE, PORT, USER } from '../../src/embedded-postgres/settings.ts'
import { PASSWORD } from '../process-faults/killable-server.ts'
import { freePorts } from '../support/free-ports.ts'
import { registryAt } from '../support/process-registry.ts'
import type { TestRegistry } from '../support/registry.ts'
import {
  type ServerProcess,
  type Settings,
  startProcess,
  stopProcess,
} from '../support/server-process.ts'

const CONNECTIONS = 60
const RETRY_MILLISECONDS = 20
const START_MILLISECONDS_MAX = 60_000
const STARTS_MAX = 3
const QUIET = { info: () => {}, warn: () => {}, error: () => {} }

/** A Postgres that a test kills and starts again. Nothing else restarts it. */
class KillablePostgres {
  readonly connection: { host: string; port: number; user: string; database: string }
  readonly #plan: ClusterPlan
  #pid = 0

  private constructor(plan: ClusterPlan) {
    this.#plan = plan
    const { socketFolder: host } = plan.runtime
    this.connection = { host, port: PORT, user: USER, database: DATABASE }
  }

  static async create(path: string): Promise<KillablePostgres> {
    const { folder, osUser } = await preparePostgresFolder(path, true)
    const cluster = join(folder, 'cluster')
    const binaries = await findBinaries(folder, osUser, undefined)
    await prepareCluster(cluster, binaries, osUser)
    const data = await dataArgument(cluster, osUser)
    const runtime = await prepareRuntime(folder, cluster, osUser)
    const plan = { cluster, data, runtime, binaries, osUser, connectionsMax: CONNECTIONS }
    const postgres = new KillablePostgres(plan)
    await postgres.start()
    return postgres
  }

  async start(): Promise<void> {
    const running = await connectOrStart(this.#plan, QUIET, new AbortController().signal)
    this.#pid = running.pid
    await prepareDatabase(running.client)
    await running.client.end()
  }

  kill(): void {
    process.kill(this.#pid, 'SIGKILL')
  }

  async stop(): Promise<void> {
    await stopPostmaster(this.#pid, identityOf(this.#plan))
  }
}

/** Two servers on one Postgres and one store, each a process of its own. A test kills any of the three. */
export class KillableServices {
  /** The number of kills. */
  readonly kills = { server: 0, Postgres: 0 }
  readonly #folder: string
  readonly #postgres: KillablePostgres
  readonly #settings: readonly Settings[]
  readonly #running: (ServerProcess | undefined)[] = []
  /** When no server or no Postgres ran, in milliseconds since 1970. */
  readonly #outages: { from: number; to: number }[] = []
  #isPostgresUp = true
  #errors = ''

  private constructor(folder: string, postgres: KillablePostgres, settings: readonly Settings[]) {
    this.#folder = folder
    this.#postgres = postgres
    this.#settings = settings
  }

  static async create(): Promise<KillableServices> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-chaos-'))
    // The Postgres may run as another user.
    await chmod(folder, 0o755)
    const postgres = await KillablePostgres.create(join(folder, 'postgres'))
    const { host, port, user, database } = postgres.connection
    const ports = await freePorts(2)
    const services = new KillableServices(
      folder,
      postgres,
      ports.map((own) => ({
        ROOKERY_DATA_DIR: join(folder, 'data'),
        ROOKERY_DATABASE_URL: `postgres:///${database}?host=${encodeURIComponent(host)}&port=${port}&user=${user}`,
        ROOKERY_ADMIN_PASSWORD: PASSWORD,
        ROOKERY_LISTEN: `127.0.0.1:${own}`,
        ROOKERY_PUBLIC_URL: `http://127.0.0.1:${ports[0]}`,
        ROOKERY_LOG_LEVEL: 'warn',
        ROOKERY_DRAIN_SECONDS: '1',
        // Simulated hosts do not renew their tokens.
        ROOKERY_TOKEN_SECONDS: '86400',
      })),
    )
    for (const index of ports.keys()) await services.startServer(index)
    return services
  }

  /** The number of servers. */
  get count(): number {
    return this.#settings.length
  }

  /** The URL of a server, also while it does not run. */
  url(index: number): string {
    return `http://${this.#settings[index]?.ROOKERY_LISTEN}`
  }

  /** One server, as its administrator sees it. */
  at(index: number): TestRegistry {
    return registryAt(this.url(index), join(this.#folder, 'data'), this.#settings[index] ?? {})
  }

  /** Any of the servers, another one for each request, as a load balancer without health checks chooses. */
  balanced(): TestRegistry {
    const servers = this.#settings.map((_, index) => this.at(index))
    let turn = 0
    const next = () => {
      turn += 1
      const server = servers[turn % servers.length]
      if (server === undefined) throw new Error('there is no server')
      return server
    }
    return {
      ...next(),
      request: (path, init) => next().request(path, init),
      anonymous: (path, init) => next().anonymous(path, init),
    }
  }

  isRunning(index: number): boolean {
    return this.#running[index] !== undefined
  }

  async startServer(index: number): Promise<void> {
    const running = await this.#startPatiently(this.#settings[index] ?? {})
    running.child.stderr?.on('data', (chunk) => {
      this.#errors += chunk
    })
    this.#running[index] = running
    this.#noteOutage()
  }

  /** Returns for how many milliseconds of a time nothing could happen, because no server or no Postgres ran. */
  downWithin(from: number, to: number): number {
    return this.#outages.reduce(
      (sum, outage) => sum + Math.max(0, Math.min(to, outage.to) - Math.max(from, outage.from)),
      0,
    )
  }

  #noteOutage(): void {
    const last = this.#outages.at(-1)
    const isUp = this.#isPostgresUp && this.#running.some((one) => one !== undefined)
    const isOut = last?.to === Number.POSITIVE_INFINITY
    if (isUp && isOut) last.to = Date.now()
    if (!isUp && !isOut) this.#outages.push({ from: Date.now(), to: Number.POSITIVE_INFINITY })
  }

  /**
   * A server that a busy machine starts too slowly is killed, and started again. The same goes for one that ended because Postgres was killed
   * while it started, as a service manager does.
   */
  async #startPatiently(settings: Settings): Promise<ServerProcess> {
    for (let starts = 1; ; starts += 1) {
      try {
        return await startProcess(settings)
      } catch (error) {
        const reason = error instanceof Error ? error.message : ''
        const isUnlucky = /did not greet|rookery: the registry cannot reach its database/.test(
          reason,
        )
        if (!isUnlucky || starts === STARTS_MAX) throw error
      }
    }
  }

  async killServer(index: number): Promise<void> {
    const running = this.#running[index]
    if (running === undefined) return
    this.#running[index] = undefined
    this.#noteOutage()
    this.kills.server += 1
    await stopProcess(running, 'SIGKILL')
  }

  killPostgres(): void {
    this.#postgres.kill()
    this.kills.Postgres += 1
    this.#isPostgresUp = false
    this.#noteOutage()
  }

  async startPostgres(): Promise<void> {
    await this.#postgres.start()
    this.#isPostgresUp = true
    this.#noteOutage()
  }

  /** Opens a connection, as soon as there can be one. */
  async database(): Promise<pg.Client> {
    const late = performance.now() + START_MILLISECONDS_MAX
    for (;;) {
      const client = new pg.Client(this.#postgres.connection)
      client.on('error', () => {})
      try {
        await client.connect()
        return client
      } catch (error) {
        if (performance.now() > late) throw error
        await delay(RETRY_MILLISECONDS)
      }
    }
  }

  /** Lines of the level `error` in the logs since the last call, without those that say that Postgres is away. */
  takeErrors(): string[] {
    const lines = this.#errors.split('\n')
    this.#errors = lines.pop() ?? ''
    return lines.filter(
      (line) => line.includes('"level":"error"') && !line.includes('cannot reach its database'),
    )
  }

  async dispose(): Promise<void> {
    for (const running of this.#running) if (running !== undefined) await stopProcess(running)
    await this.#postgres.stop()
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }
}
