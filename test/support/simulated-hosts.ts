import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { digestOf } from './digest.ts'

/** A connection of a host to its registry. */
export type HostConnection = {
  readonly name: string
  /** Sends a request with the token of the host. */
  request(path: string, init?: RequestInit): Promise<Response>
}

/** How a host deals with a new kernel. */
export type Behaviour = {
  /** How a kernel ends. `silent`: nothing more is reported. */
  conclude(kernel: string): 'healthy' | 'failed' | 'silent'
  /** Milliseconds that each of fetching, starting and checking takes. 0: they are not reported. */
  stepMilliseconds(): number
  /** True for a host that reads the kernel, and verifies its digest. */
  readonly fetches: boolean
}

/** A unit of a host. */
export type SimulatedUnit = {
  readonly name: string
  readonly repository: string
  readonly tag: string
}

/** An event on a host, whether or not it was reported. */
export type Happened = {
  readonly host: string
  readonly unit: string
  readonly kernel: string
  readonly state: 'started' | 'healthy' | 'failed'
  /** Milliseconds since 1970. */
  readonly at: number
}

/** The kernel that a unit should run, as the registry says. */
type Desired = {
  readonly name: string
  readonly kernel: { readonly digest: string; readonly url: string } | null
  readonly deployment: string | null
  readonly seen: { readonly kernel: string | null; readonly state: string | null }
}

type Report = {
  readonly kernel: string | null
  readonly state: string
  readonly deployment?: string | null
  readonly [field: string]: unknown
}

type Running = {
  /** The kernel that passed its check last: a host that lost its power starts it again. */
  kernel: string | null
  deployment: string | null
  state: string
  /** The deployment and kernel that failed here last. */
  failed: string | undefined
  isBusy: boolean
  wanted: Desired | undefined
}

const POLL_SECONDS = 55
const RETRY_MILLISECONDS = 100
const TENDERS = [{ target: 'hvt', abi: 2, architecture: 'x86_64' }]

export const ALWAYS_HEALTHY: Behaviour = {
  conclude: () => 'healthy',
  stepMilliseconds: () => 0,
  fetches: false,
}

/**
 * A host that follows tags as an agent does: it asks for the kernels of its units, starts them, checks them and reports.
 * Its kernels are only names. Without power it does nothing, and afterwards it runs what it ran before.
 */
export class SimulatedHost {
  readonly name: string
  /** Everything that happened, in order. */
  readonly happened: Happened[] = []
  /** Answers that the host did not expect: status and text. */
  readonly refusals: string[] = []
  readonly #connection: HostConnection
  readonly #units: readonly SimulatedUnit[]
  readonly #behaviour: Behaviour
  readonly #disk = new Map<string, Running>()
  #power = new AbortController()
  #bootId = ''
  #sequence = 0
  #working: Promise<unknown> = Promise.resolve()

  constructor(
    connection: HostConnection,
    units: readonly SimulatedUnit[],
    behaviour: Behaviour = ALWAYS_HEALTHY,
  ) {
    this.name = connection.name
    this.#connection = connection
    this.#units = units
    this.#behaviour = behaviour
  }

  /** The kernel that a unit runs. */
  kernelOf(unit: string): string | null {
    return this.#disk.get(unit)?.kernel ?? null
  }

  /** Starts the host. Resolves when the registry knows its units. */
  async start(): Promise<void> {
    this.#power = new AbortController()
    this.#bootId = randomUUID()
    this.#sequence = 0
    const { signal } = this.#power
    for (const unit of this.#units) {
      const before = this.#disk.get(unit.name)
      const running: Running = {
        kernel: before?.kernel ?? null,
        deployment: before?.deployment ?? null,
        state: before?.kernel ? 'healthy' : 'absent',
        failed: before?.failed,
        isBusy: false,
        wanted: undefined,
      }
      this.#disk.set(unit.name, running)
      await this.#report(unit, { kernel: running.kernel, state: running.state }, signal)
    }
    this.#working = this.#follow(signal).catch((error) => {
      if (!signal.aborted) throw error
    })
  }

  /** Takes the power away: connections end, and nothing more is reported. */
  async kill(): Promise<void> {
    this.#power.abort()
    await this.#working.catch(() => {})
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const path = `/api/v1/hosts/${this.name}/desired?wait=${POLL_SECONDS}`
    let etag: string | undefined
    const working = new Set<Promise<void>>()
    while (!signal.aborted) {
      const answer = await this.#send(path, {
        signal,
        headers: etag === undefined ? {} : { 'if-none-match': etag },
      })
      if (answer?.status === 200) {
        etag = answer.headers.get('etag') ?? undefined
        const { units } = JSON.parse(answer.text) as { units: Desired[] }
        for (const wanted of units) {
          const done = this.#consider(wanted, signal).finally(() => working.delete(done))
          // A host without power leaves its work where it is.
          done.catch(() => {})
          working.add(done)
        }
      } else if (answer?.status !== 304) {
        await delay(RETRY_MILLISECONDS, undefined, { signal }).catch(() => {})
      }
    }
    await Promise.allSettled(working)
  }

  /** One worker a unit: what is wanted meanwhile follows when it has concluded. */
  async #consider(wanted: Desired, signal: AbortSignal): Promise<void> {
    const unit = this.#units.find(({ name }) => name === wanted.name)
    const running = this.#disk.get(wanted.name)
    if (unit === undefined || running === undefined) return
    running.wanted = wanted
    if (running.isBusy) return
    running.isBusy = true
    while (running.wanted !== undefined && !signal.aborted) {
      const next: Desired = running.wanted
      running.wanted = undefined
      await this.#reach(unit, running, next, signal)
    }
    running.isBusy = false
  }

  async #reach(
    unit: SimulatedUnit,
    running: Running,
    { kernel, deployment, seen }: Desired,
    signal: AbortSignal,
  ): Promise<void> {
    const attempt = `${deployment} ${kernel?.digest}`
    const isDone = kernel === null || kernel.digest === running.kernel
    if (isDone || running.failed === attempt) {
      const isNew = isDone && kernel !== null && deployment !== running.deployment
      const isSeen = seen.kernel === running.kernel && seen.state === running.state
      if (isSeen && !isNew) return
      if (isNew) running.deployment = deployment
      // A kernel that runs already is healthy for the next deployment, too.
      if (isNew) running.state = 'healthy'
      const report = { kernel: running.kernel, state: running.state, deployment }
      return this.#report(unit, report, signal)
    }
    await this.#update(unit, running, kernel, deployment, signal)
  }

  async #update(
    unit: SimulatedUnit,
    running: Running,
    kernel: { readonly digest: string; readonly url: string },
    deployment: string | null,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#step(unit, { kernel: running.kernel, state: 'fetching', deployment }, signal)
    if (this.#behaviour.fetches) await this.#fetch(kernel, signal)
    this.#record(unit, kernel.digest, 'started')
    for (const state of ['starting', 'checking']) {
      await this.#step(unit, { kernel: kernel.digest, state, deployment }, signal)
    }
    const end = this.#behaviour.conclude(kernel.digest)
    if (end === 'silent' || signal.aborted) return
    this.#record(unit, kernel.digest, end)
    if (end === 'healthy') {
      Object.assign(running, { kernel: kernel.digest, deployment, state: end, failed: undefined })
      return this.#report(unit, { kernel: kernel.digest, state: end, deployment }, signal)
    }
    running.failed = `${deployment} ${kernel.digest}`
    running.state = running.kernel === null ? 'failed' : 'rolled-back'
    const exit = { code: 2, meaning: 'an exception of OCaml' }
    const log = { text: 'Fatal error: exception Not_found\n' }
    const words = { exit, log, reason: 'exited', message: 'it ended in its watch window' }
    const { state } = running
    await this.#report(unit, { kernel: running.kernel, state, deployment, ...words }, signal)
  }

  #record({ name: unit }: SimulatedUnit, kernel: string, state: Happened['state']): void {
    this.happened.push({ host: this.name, unit, kernel, state, at: Date.now() })
  }

  async #step(unit: SimulatedUnit, report: Report, signal: AbortSignal): Promise<void> {
    const milliseconds = this.#behaviour.stepMilliseconds()
    if (milliseconds === 0) return
    await this.#report(unit, report, signal)
    await delay(milliseconds, undefined, { signal })
  }

  async #fetch(kernel: { readonly digest: string; readonly url: string }, signal: AbortSignal) {
    const { pathname } = new URL(kernel.url)
    while (!signal.aborted) {
      const answer = await this.#send(pathname, { signal })
      if (answer?.status === 200) {
        if (digestOf(answer.bytes) !== kernel.digest) this.refusals.push(`${pathname}: other bytes`)
        return
      }
      await delay(RETRY_MILLISECONDS, undefined, { signal }).catch(() => {})
    }
  }

  /** Reports until the registry has it. A repeated report has the same sequence. */
  async #report(
    { name, repository, tag }: SimulatedUnit,
    report: Report,
    signal: AbortSignal,
  ): Promise<void> {
    this.#sequence += 1
    const body = JSON.stringify({
      follows: { repository, tag },
      ...{ bootId: this.#bootId, sequence: this.#sequence, tenders: TENDERS, agent: 'simulated' },
      since: new Date().toISOString(),
      ...report,
    })
    const path = `/api/v1/hosts/${this.name}/units/${name}`
    const headers = { 'content-type': 'application/json' }
    while (!signal.aborted) {
      const answer = await this.#send(path, { method: 'PUT', headers, body, signal })
      if (answer?.status === 200) return
      await delay(RETRY_MILLISECONDS, undefined, { signal }).catch(() => {})
    }
  }

  /** Undefined when there was no answer. */
  async #send(path: string, init: RequestInit) {
    try {
      const answer = await this.#connection.request(path, init)
      const { status, headers } = answer
      const bytes = Buffer.from(await answer.arrayBuffer())
      const text = bytes.toString()
      // A registry that starts or has no database says so.
      if (![200, 304, 503].includes(status)) this.refusals.push(`${path}: ${status} ${text}`)
      return { status, headers, bytes, text }
    } catch {
      return undefined
    }
  }
}
