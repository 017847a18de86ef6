/** A host of deployments.ts. It parses no JSON, because it shares the machine with the server. */
import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { Connection, type HttpRequest, type HttpResponse, header } from './connection.ts'

const READ_BYTES = 8 * 1024
const POLL_SECONDS = 55
const RETRY_MILLISECONDS = 1_000
const MEDIA_TYPE = 'Content-Type: application/json\r\n'

/** The times between the answer to a host and its reports, in milliseconds: each is random, up to these. */
export type Delays = {
  readonly fetching: number
  readonly checking: number
  readonly healthy: number
}

/** The times of a host and a kernel: milliseconds since 1970. */
export type Update = { answeredAt: number; healthyAt: number | undefined }

const now = () => performance.timeOrigin + performance.now()

/** A connection that is opened again when it failed. */
class Reconnecting {
  readonly #origin: string
  #open: Connection | undefined

  constructor(origin: string) {
    this.#origin = origin
  }

  async ask(request: HttpRequest): Promise<HttpResponse> {
    this.#open ??= await Connection.open(this.#origin, READ_BYTES)
    return this.#open.ask(request)
  }

  close(): void {
    this.#open?.close()
    this.#open = undefined
  }
}

/**
 * A host with one unit, which sends the requests of rookery-agent: it waits for what the unit should run, and for another
 * kernel it reports `fetching`, downloads it, and reports `checking` and `healthy`.
 */
export class WaitingHost {
  /** By the digest of the kernel. */
  readonly updates = new Map<string, Update>()
  /** Answers that were not expected. */
  readonly refusals: string[] = []
  readonly #origin: string
  readonly #path: string
  readonly #token: string
  readonly #follows: string
  readonly #delays: Delays
  readonly #bootId = randomUUID()
  #sequence = 0

  constructor(
    origin: string,
    host: { readonly name: string; readonly token: string; readonly repository: string },
    delays: Delays,
  ) {
    this.#origin = origin
    this.#path = `/api/v1/hosts/${host.name}`
    this.#token = `Authorization: Bearer ${host.token}\r\n`
    this.#follows = `{"repository":"${host.repository}","tag":"live"}`
    this.#delays = delays
  }

  /** Registers the unit, and waits from then on. */
  async start(): Promise<void> {
    const connection = new Reconnecting(this.#origin)
    await this.#report(connection, 'absent', null, null)
    void this.#wait(connection)
  }

  async #wait(connection: Reconnecting): Promise<void> {
    const target = `${this.#path}/desired?wait=${POLL_SECONDS}`
    const headers = `${this.#token}Accept: text/plain\r\n`
    for (let etag = ''; ; ) {
      const condition = etag === '' ? '' : `If-None-Match: ${etag}\r\n`
      const request = { method: 'GET', target, headers: headers + condition, keepText: true }
      const answer = await this.#ask(connection, request)
      if (answer === undefined) await wait(RETRY_MILLISECONDS)
      if (answer?.status !== 200) continue
      const answeredAt = now()
      etag = header(answer, 'etag') ?? ''
      const [, , kernel = '-', url = '', deployment = '-'] = answer.text.split('\t')
      if (kernel === '-' || deployment === '-' || this.updates.has(kernel)) continue
      const update: Update = { answeredAt, healthyAt: undefined }
      this.updates.set(kernel, update)
      void this.#update(kernel, new URL(url).pathname, deployment, update)
    }
  }

  async #update(kernel: string, path: string, deployment: string, update: Update): Promise<void> {
    await pause(this.#delays.fetching)
    const connection = new Reconnecting(this.#origin)
    await this.#report(connection, 'fetching', null, deployment)
    await this.#ask(connection, { method: 'GET', target: path, headers: this.#token })
    await pause(this.#delays.checking)
    await this.#report(connection, 'checking', kernel, deployment)
    await pause(this.#delays.healthy)
    await this.#report(connection, 'healthy', kernel, deployment)
    update.healthyAt = now()
    connection.close()
  }

  async #report(
    connection: Reconnecting,
    state: string,
    kernel: string | null,
    deployment: string | null,
  ): Promise<void> {
    this.#sequence += 1
    const running = kernel === null ? 'null' : `"${kernel}"`
    const about = deployment === null ? '' : `,"deployment":"${deployment}"`
    const bytes = Buffer.from(
      `{"follows":${this.#follows},"bootId":"${this.#bootId}","sequence":${this.#sequence},"state":"${state}","kernel":${running}${about},"tenders":[{"target":"hvt","abi":2,"architecture":"x86_64"}],"agent":"bench"}`,
    )
    const request = {
      method: 'PUT',
      target: `${this.#path}/units/www`,
      headers: this.#token + MEDIA_TYPE,
      body: { length: bytes.length, chunks: [bytes] },
    }
    while ((await this.#ask(connection, request)) === undefined) await wait(RETRY_MILLISECONDS)
  }

  /** Returns undefined when the connection failed or the answer was not expected. */
  async #ask(connection: Reconnecting, request: HttpRequest): Promise<HttpResponse | undefined> {
    try {
      const answer = await connection.ask(request)
      if (answer.status === 200 || answer.status === 304) return answer
      this.refusals.push(`${request.target}: ${answer.status} ${answer.text}`)
    } catch (error) {
      this.refusals.push(`${request.target}: ${error}`)
    }
    connection.close()
    return undefined
  }
}

async function pause(millisecondsMax: number): Promise<void> {
  if (millisecondsMax > 0) await wait(Math.random() * millisecondsMax)
}
