import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { basic, RawConnection, requestBytes } from '../support/raw-client.ts'
import type { TestRegistry } from '../support/registry.ts'
import { storeSettings } from '../support/s3.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

/** Two processes on one database and one store; a test may kill them. */
export class TwoServers {
  readonly settings: Readonly<Record<string, string>>
  readonly #folder: string
  readonly #database: TestDatabase
  readonly #running: ServerProcess[] = []
  readonly #connections: RawConnection[] = []

  private constructor(folder: string, database: TestDatabase, settings: Record<string, string>) {
    this.#folder = folder
    this.#database = database
    this.settings = settings
  }

  static async start(): Promise<TwoServers> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-two-'))
    const database = await createTestDatabase()
    const servers = new TwoServers(folder, database, {
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_DATABASE_URL: database.url,
      ROOKERY_ADMIN_PASSWORD: randomBytes(12).toString('hex'),
      ROOKERY_LOG_LEVEL: 'warn',
      ROOKERY_DRAIN_SECONDS: '1',
      ROOKERY_GC_INTERVAL_SECONDS: '3600',
      ...(await storeSettings()),
    })
    await servers.startNext()
    await servers.startNext()
    return servers
  }

  /** Starts one more server. */
  async startNext(): Promise<TestRegistry> {
    this.#running.push(await startProcess(this.settings))
    return this.at(this.#running.length - 1)
  }

  at(index: number): TestRegistry {
    const { url } = this.#server(index)
    return registryAt(url, this.settings.ROOKERY_DATA_DIR ?? '', this.settings)
  }

  /** Ends a server with SIGKILL. */
  async kill(index: number): Promise<void> {
    const { child } = this.#server(index)
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
  }

  /** Sends a request without the second half of its body. */
  async sendHalf(
    index: number,
    method: string,
    target: string,
    body: Buffer,
    headers: Record<string, string> = {},
  ): Promise<{ connection: RawConnection; rest: Buffer }> {
    const connection = await RawConnection.open(this.#server(index).url)
    this.#connections.push(connection)
    const authorization = basic(this.settings.ROOKERY_ADMIN_PASSWORD ?? '')
    const all = { Authorization: authorization, ...headers }
    const bytes = requestBytes({ method, target, headers: all, body })
    const half = bytes.length - Math.floor(body.length / 2)
    await connection.send(bytes.subarray(0, half))
    return { connection, rest: bytes.subarray(half) }
  }

  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.close()
    for (const server of this.#running) await stopProcess(server)
    await this.#database.drop()
    await rm(this.#folder, { recursive: true, force: true })
  }

  #server(index: number): ServerProcess {
    const server = this.#running[index]
    if (server === undefined) throw new Error(`server ${index} was not started`)
    return server
  }
}

/** Repeats a request until its answer is not 503. Every 503 must say how long a client waits. */
export async function afterBusy(
  secondsMax: number,
  request: () => Promise<Response>,
): Promise<{ answer: Response; seconds: number }> {
  const began = performance.now()
  for (;;) {
    const answer = await request()
    const seconds = (performance.now() - began) / 1000
    if (answer.status !== 503) return { answer, seconds }
    expect(await answer.text()).toContain('UNAVAILABLE')
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d?$/)
    expect(seconds).toBeLessThan(secondsMax)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
