import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { expect } from 'vitest'
import type { Rollout } from '../../src/deployments/rollout.ts'
import { processesOf } from '../agent/host-processes.ts'
import { elf } from '../cli/builder.ts'
import { digestOf } from '../support/digest.ts'
import { enrolHost } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { SimulatedHost } from '../support/simulated-hosts.ts'
import { ChaosAgent, type KernelBehaviour } from './chaos-agent.ts'
import { FeedReader } from './chaos-feed.ts'
import { problemsOfUnit, type Run } from './chaos-journal.ts'
import type { KillableServices } from './chaos-services.ts'
import { type Position, problemsOfFeed, problemsOfRollbacks } from './chaos-truth.ts'

export const REPOSITORY = 'chaos/www'
export const TAGS = ['live', 'edge'] as const
export type ChaosTag = (typeof TAGS)[number]

/** Each unit has the name of the tag that it follows. */
const AGENTS: Readonly<Record<string, readonly ChaosTag[]>> = {
  'a-1': ['live', 'edge'],
  'a-2': ['live'],
  'b-3': ['edge'],
}
const SIMULATED: Readonly<Record<string, readonly ChaosTag[]>> = {
  'a-3': ['live', 'edge'],
  'b-1': ['live'],
  'b-2': ['edge'],
}

const STEP_MILLISECONDS_MAX = 60
/** The share of good kernels that fail on a simulated host. */
const FAILURES = 0.03
const ANSWER_MILLISECONDS_MAX = 60_000

/** A deployment as the API has it. */
export type ListedDeployment = {
  readonly id: string
  readonly tag: ChaosTag
  readonly number: number
  readonly digest: string
  readonly state: string
  readonly rollout: Rollout
}

/** Hosts with real agents and simulated ones, which follow two tags of a registry on two servers. */
export class ChaosSite {
  readonly registry: TestRegistry
  readonly agents: ChaosAgent[] = []
  readonly simulated: SimulatedHost[] = []
  readonly feed: FeedReader
  /** The kernels that were pushed, by their digests, and their manifests. */
  readonly behaviours = new Map<string, KernelBehaviour>()
  readonly kernels = new Map<string, string>()
  readonly killedKernels: { host: string; unit: string; kernel: string | null; at: number }[] = []
  /** True when no good kernel fails on a simulated host any more. */
  areAllGood = false
  readonly #rollouts = new Map<string, Rollout>()

  readonly #services: KillableServices

  private constructor(services: KillableServices, registry: TestRegistry, feed: FeedReader) {
    this.#services = services
    this.registry = registry
    this.feed = feed
  }

  static async create(services: KillableServices, random: () => number): Promise<ChaosSite> {
    const registry = services.balanced()
    const site = new ChaosSite(services, registry, await FeedReader.start(registry, REPOSITORY))
    const conclude = (kernel: string) => {
      const isLucky = site.areAllGood || random() >= FAILURES
      return site.behaviours.get(kernel) === 'steady' && isLucky ? 'healthy' : 'failed'
    }
    const stepMilliseconds = () => Math.ceil(random() * STEP_MILLISECONDS_MAX)
    for (const [name, tags] of Object.entries(SIMULATED)) {
      const connection = await enrolHost(registry, { name, repositories: [REPOSITORY] })
      const units = tags.map((tag) => ({ name: tag, repository: REPOSITORY, tag }))
      const host = new SimulatedHost(connection, units, {
        ...{ fetches: true, stepMilliseconds, conclude },
      })
      await host.start()
      site.simulated.push(host)
    }
    for (const [index, [name, tags]] of Object.entries(AGENTS).entries()) {
      const url = services.url(index % services.count)
      site.agents.push(await ChaosAgent.create(registry, url, name, REPOSITORY, tags))
    }
    return site
  }

  async remove(): Promise<void> {
    const ends = await Promise.allSettled([
      this.feed.stop(),
      ...this.simulated.map((host) => host.kill()),
      ...this.agents.map((agent) => agent.remove()),
    ])
    const left = this.agents.flatMap(({ folder }) => processesOf(folder))
    expect({ ends: ends.filter(({ status }) => status === 'rejected'), left }).toEqual({
      ...{ ends: [], left: [] },
    })
  }

  /** Repeats a request until a server answers it, and returns the answer. */
  async ask(path: string, init: RequestInit = {}): Promise<{ status: number; body: unknown }> {
    let answer: { status: number; body: unknown } | undefined
    const once = async () => {
      try {
        const { status, ...response } = await this.registry
          .request(path, init)
          .then(async (one) => ({ status: one.status, text: await one.text() }))
        if (status === 503) return false
        answer = { status, body: response.text === '' ? null : JSON.parse(response.text) }
        return true
      } catch {
        return false
      }
    }
    await expect.poll(once, { timeout: ANSWER_MILLISECONDS_MAX }).toBe(true)
    if (answer === undefined) throw new Error('there is no answer')
    return answer
  }

  async json(path: string): Promise<unknown> {
    const { status, body } = await this.ask(path)
    expect({ path, status, body }).toMatchObject({ status: 200 })
    return body
  }

  async putRollout(tag: ChaosTag, policy: Partial<Rollout>): Promise<void> {
    const body = JSON.stringify({ repositories: [REPOSITORY], tags: [tag], ...policy })
    const headers = { 'content-type': 'application/json' }
    const { status, body: said } = await this.ask(`/api/v1/rollouts/${tag}`, {
      ...{ method: 'PUT', headers, body },
    })
    expect({ status, said, body }).toMatchObject({ status: expect.toBeOneOf([200, 201]) })
  }

  /** Pushes a kernel that no other has the bytes of. Its last word says what it does. */
  async push(tag: ChaosTag, behaviour: KernelBehaviour): Promise<string> {
    const mark = `\n${randomBytes(8).toString('hex')} ${behaviour}`
    const bytes = Buffer.concat([await readFile(elf('mini-net.hvt')), Buffer.from(mark)])
    const kernel = digestOf(bytes)
    this.behaviours.set(kernel, behaviour)
    const form = new FormData()
    form.append('kernel', new Blob([new Uint8Array(bytes)]), 'www.hvt')
    const path = `/api/v1/repositories/${REPOSITORY}/images?tag=${tag}`
    const { status, body } = await this.ask(path, { method: 'POST', body: form })
    expect({ status, body }).toMatchObject({ status: 201 })
    this.kernels.set((body as { digest: string }).digest, kernel)
    return kernel
  }

  async newest(tag: ChaosTag): Promise<ListedDeployment | undefined> {
    const path = `/api/v1/repositories/${REPOSITORY}/deployments?tag=${tag}&n=1`
    const { status, body } = await this.ask(path)
    if (status === 404) return undefined
    return (body as { deployments: ListedDeployment[] }).deployments[0]
  }

  /** Changes a deployment. It may have ended meanwhile, or its answer may have been lost before. */
  async act(id: string, action: 'pause' | 'resume' | 'cancel' | 'retry'): Promise<void> {
    const { status, body } = await this.ask(`/api/v1/deployments/${id}/${action}`, {
      method: 'POST',
    })
    expect({ action, status, body }).toMatchObject({
      status: expect.toBeOneOf([200, 201, 202, 204, 409]),
    })
  }

  /** True for a kernel that ends by itself, or that was killed on a host. */
  mayFail(host: string, unit: string, kernel: string | undefined, at: number): boolean {
    const wasKilled = this.killedKernels.some(
      (one) => one.host === host && one.unit === unit && one.kernel === kernel && one.at <= at,
    )
    return wasKilled || this.behaviours.get(kernel ?? '') !== 'steady'
  }

  /** The kernel of each unit, by host and unit, as the hosts themselves know. */
  running(): Map<string, string | null> {
    return new Map([
      ...this.agents.flatMap((agent) =>
        agent.units.map((unit) => [`${agent.name} ${unit}`, agent.running(unit)] as const),
      ),
      ...this.simulated.flatMap((host) =>
        (SIMULATED[host.name] ?? []).map(
          (unit) => [`${host.name} ${unit}`, host.kernelOf(unit)] as const,
        ),
      ),
    ])
  }

  /** Everything that is known, to find a mistake. */
  describe(planned: object, problems: readonly string[]): string {
    const journals = this.agents.map((agent) => ({
      ...{ host: agent.name, journal: agent.journal(), folder: agent.folder },
      printed: agent.printed.split('\n').slice(-200),
    }))
    const happened = this.simulated.map(({ name, happened: all }) => ({ name, happened: all }))
    const kernels = { behaviours: [...this.behaviours], manifests: [...this.kernels] }
    const all = { problems, planned, kernels, journals, happened, events: this.feed.events }
    return JSON.stringify(all, null, 1)
  }

  /** Compares everything that the registry says with what happened. */
  async problems(): Promise<string[]> {
    const { events } = this.feed
    for (const { type, data } of events) {
      if (type !== 'deployment.created' || this.#rollouts.has(data.deployment)) continue
      const found = await this.json(`/api/v1/deployments/${data.deployment}`)
      this.#rollouts.set(data.deployment, (found as ListedDeployment).rollout)
    }
    const rolloutOf = (id: string) => this.#rollouts.get(id)
    const downWithin = this.#services.downWithin.bind(this.#services)
    const problems = [...this.feed.problems, ...problemsOfFeed(events, rolloutOf, downWithin)]
    for (const tag of TAGS) {
      const history = await this.#history(tag)
      problems.push(...problemsOfRollbacks(tag, history, events, rolloutOf))
    }
    const runs = await this.#runs()
    for (const agent of this.agents) {
      const journal = agent.journal()
      for (const unit of agent.units) {
        const isOwn = (one: { host: string; unit: string }) =>
          one.host === agent.name && one.unit === unit
        const found = problemsOfUnit({
          ...{ host: agent.name, unit, events, runs: runs.filter(isOwn) },
          journal: journal.filter((line) => line.unit === unit),
          downWithin,
          mayFail: (kernel, at) => this.mayFail(agent.name, unit, kernel, at),
        })
        problems.push(...found)
      }
    }
    return [...problems, ...this.#problemsOfSimulated(runs)]
  }

  #problemsOfSimulated(runs: readonly Run[]): string[] {
    const happened = new Set(
      this.simulated.flatMap((host) =>
        host.happened.map(({ unit, kernel, state }) => `${host.name} ${unit} ${kernel} ${state}`),
      ),
    )
    const names = this.simulated.map(({ name }) => name)
    const said = [
      ...this.feed.events
        .filter(({ type }) => type === 'deployment.target.changed')
        .filter(({ data }) => ['healthy', 'failed', 'rolled-back'].includes(data.state))
        .map(({ data }) => ({
          ...data,
          state: data.state === 'healthy' ? 'healthy' : 'failed',
        })),
      ...runs.map((run) => ({ ...run, state: 'started' })),
    ]
    return [
      ...this.simulated.flatMap(({ refusals }) => refusals),
      ...said
        .filter(({ host }) => names.includes(host))
        .map(({ host, unit, kernel, state }) => `${host} ${unit} ${kernel} ${state}`)
        .filter((one) => !happened.has(one))
        .map((one) => `never happened: ${one}`),
    ]
  }

  async #history(tag: ChaosTag): Promise<Position[]> {
    const path = `/api/v1/repositories/${REPOSITORY}/tags/${tag}/history?n=1000`
    return ((await this.json(path)) as { positions: Position[] }).positions
  }

  async #runs(): Promise<Run[]> {
    const path = `/api/v1/runs?repository=${encodeURIComponent(REPOSITORY)}&n=1000`
    const { runs } = (await this.json(path)) as {
      runs: { host: string; unit: string; kernel: string; from: string; to: string | null }[]
    }
    return runs.map((run) => ({
      ...run,
      from: Date.parse(run.from),
      to: run.to === null ? null : Date.parse(run.to),
    }))
  }
}
