import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { DEPLOYMENTS_CHANNEL } from '../../src/db/deployments/notifications.ts'
import type { ChaosAgent } from './chaos-agent.ts'
import type { Round, Step } from './chaos-plan.ts'
import type { KillableServices } from './chaos-services.ts'
import { type ChaosSite, TAGS } from './chaos-site.ts'

/** The longest time from the end of the causes until everything is as it should be. */
const CALM_SECONDS_MAX = 60
/** An agent whose worker was killed alone looks at its units again only after its next answer. */
const HURRY_MILLISECONDS = 2_000
const POLL_MILLISECONDS = 100
const STAGE_MILLISECONDS_MAX = 4_000
/** A host that is lost returns after this, though the deployments of that time may still wait for it. */
const LOST_MILLISECONDS_MAX = 8_000

/** A unit, as the registry has it. */
type UnitRow = {
  readonly host: string
  readonly unit: string
  readonly kernel: string | null
  readonly state: string
  readonly granted: string | null
}

/** Does what rounds say to the services and the hosts, and waits until they have recovered. */
export class ChaosRunner {
  /** Everything that was done, with the milliseconds since the start of its round. */
  readonly done: string[] = []
  readonly kills = { simulated: 0, kernel: 0, lost: 0, everything: 0 }
  readonly #services: KillableServices
  readonly #site: ChaosSite
  /** The last work on each server and on Postgres, which the next one waits for. */
  readonly #busy = new Map<string, Promise<void>>()
  #startedAt = 0

  constructor(services: KillableServices, site: ChaosSite) {
    this.#services = services
    this.#site = site
  }

  /** Does everything of a round, and returns what is wrong afterwards. */
  async run({ rollouts, lost, steps }: Round): Promise<string[]> {
    this.done.length = 0
    this.#startedAt = performance.now()
    for (const tag of TAGS) await this.#site.putRollout(tag, rollouts[tag])
    const away = lost === undefined ? undefined : this.#site.agents[lost]
    if (away !== undefined) await this.#lose(away)
    this.#startedAt = performance.now()
    await Promise.all(
      steps.map(async (step) => {
        await delay(step.at)
        await this.#take(step, away)
      }),
    )
    const problems = away === undefined ? [] : await this.#return(away)
    await Promise.all(this.#busy.values())
    return [...problems, ...(await this.#calm())]
  }

  /** Pushes a good kernel to each tag while nothing is killed. Returns what does not run it everywhere. */
  async converge(): Promise<string[]> {
    this.#site.areAllGood = true
    for (const tag of TAGS) {
      await this.#site.putRollout(tag, {})
      await this.#site.push(tag, 'steady')
    }
    const problems = await this.#calm()
    for (const tag of TAGS) {
      const newest = await this.#site.newest(tag)
      const { kernels } = this.#site
      const kernel = kernels.get(newest?.digest ?? '')
      if (newest?.state !== 'succeeded') problems.push(`${tag} is ${newest?.state} at the end`)
      for (const [unit, runs] of this.#site.running()) {
        if (unit.endsWith(tag) && runs !== kernel) problems.push(`${unit} runs ${runs} at the end`)
      }
    }
    return problems
  }

  /** How much was killed, and how much happened. */
  summary(): string {
    const { agents, feed } = this.#site
    const of = (kind: 'group' | 'main' | 'worker') =>
      agents.reduce((sum, { kills }) => sum + kills[kind], 0)
    const stages = new Map<string, number>()
    for (const agent of agents) {
      for (const [stage, count] of agent.stages) {
        stages.set(stage, (stages.get(stage) ?? 0) + count)
      }
    }
    const killed = {
      ...{ ...this.#services.kills, ...this.kills },
      ...{ agentGroup: of('group'), agentMain: of('main'), agentWorker: of('worker') },
    }
    const ends = new Map<string, number>()
    for (const { type, data } of feed.events) {
      if (type !== 'deployment.finished') continue
      ends.set(data.state, (ends.get(data.state) ?? 0) + 1)
    }
    const parts = { killed, stages: Object.fromEntries(stages), ended: Object.fromEntries(ends) }
    return `${feed.events.length} events, ${JSON.stringify(parts)}`
  }

  #note(what: string): void {
    this.done.push(`${Math.round(performance.now() - this.#startedAt)} ${what}`)
  }

  async #take(step: Step, away: ChaosAgent | undefined): Promise<void> {
    const { kind } = step
    if (kind === 'push') {
      await this.#site.push(step.tag, step.behaviour)
      return this.#note(`pushed ${step.behaviour} to ${step.tag}`)
    }
    if (kind === 'kill server') {
      await this.#restartServer(step.server, step.down)
      return this.#note(`killed server ${step.server}`)
    }
    if (kind === 'kill Postgres') {
      await this.#restartPostgres(step.down)
      return this.#note(kind)
    }
    if (kind === 'kill everything') {
      this.kills.everything += 1
      const servers = Array.from({ length: this.#services.count }, (_, index) => index)
      const all = servers.map((index) => this.#restartServer(index, step.down))
      await Promise.all([...all, this.#restartPostgres(0)])
      return this.#note(`${kind} for ${step.down} ms`)
    }
    if (kind === 'kill simulated host') {
      const host = this.#site.simulated[step.host]
      this.kills.simulated += 1
      await host?.kill()
      await delay(step.down)
      await host?.start()
      return this.#note(`killed ${host?.name}`)
    }
    if (kind === 'kill agent' || kind === 'kill kernel') {
      const agent = this.#site.agents[step.agent]
      if (agent === undefined || agent === away) return
      return kind === 'kill agent' ? this.#killAgent(agent, step) : this.#killKernel(agent, step)
    }
    await this.#act(step)
  }

  async #killAgent(agent: ChaosAgent, step: Step & { kind: 'kill agent' }): Promise<void> {
    const { killed, stage, down } = step
    const unit = agent.units[step.unit % agent.units.length] ?? ''
    const reached = stage === undefined || (await agent.reach(unit, stage, STAGE_MILLISECONDS_MAX))
    if (!reached) return
    await agent.kill(killed, unit)
    this.#note(`killed ${killed} of ${agent.name} ${unit} ${stage ?? ''}`)
    await delay(down)
    agent.start()
  }

  #killKernel(agent: ChaosAgent, step: Step & { kind: 'kill kernel' }): void {
    const unit = agent.units[step.unit % agent.units.length] ?? ''
    const killed = { host: agent.name, unit, kernel: agent.running(unit), at: Date.now() }
    if (!agent.killKernel(unit)) return
    this.kills.kernel += 1
    this.#site.killedKernels.push(killed)
    this.#note(`killed the kernel of ${agent.name} ${unit}`)
  }

  async #act(step: Step & { kind: 'pause' | 'cancel' | 'retry' }): Promise<void> {
    const { kind, tag } = step
    const newest = await this.#site.newest(tag)
    if (newest === undefined) return
    await this.#site.act(newest.id, kind)
    this.#note(`${kind} of ${tag}#${newest.number}`)
    if (step.kind !== 'pause') return
    await delay(step.down)
    await this.#site.act(newest.id, 'resume')
    this.#note(`resume of ${tag}#${newest.number}`)
  }

  /** One after the other: what is killed was started before. */
  #alone(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(name) ?? Promise.resolve()
    const done = before.then(work)
    this.#busy.set(name, done)
    return done
  }

  #restartServer(index: number, down: number): Promise<void> {
    return this.#alone(`server ${index}`, async () => {
      await this.#services.killServer(index)
      await delay(down)
      await this.#services.startServer(index)
    })
  }

  #restartPostgres(down: number): Promise<void> {
    return this.#alone('Postgres', async () => {
      this.#services.killPostgres()
      await delay(down)
      await this.#services.startPostgres()
    })
  }

  /** An agent that sends nothing for three minutes is lost: the time is set, and everything else happens. */
  async #lose(agent: ChaosAgent): Promise<void> {
    this.kills.lost += 1
    await agent.kill('group', '')
    // A server records requests for seconds after they came.
    for (let index = 0; index < this.#services.count; index += 1) {
      await this.#services.killServer(index)
    }
    const db = await this.#services.database()
    await db.query(
      `with lost as (
         update hosts
            set seen_at = now() - interval '200 seconds',
                lost_at = now()
          where name = $1
         returning id
       )
       select pg_notify('${DEPLOYMENTS_CHANNEL}', 'deployment:' || t.deployment_id)
         from lost
         join targets t on t.host_id = lost.id
        where t.state in ('waiting', 'granted', 'fetching', 'starting', 'checking')`,
      [agent.name],
    )
    await db.end()
    const indexes = Array.from({ length: this.#services.count }, (_, index) => index)
    await Promise.all(indexes.map((index) => this.#services.startServer(index)))
    this.#note(`lost ${agent.name}`)
  }

  /** A host that returns starts the newest image of each tag, if all others run it already, and nothing in between. */
  async #return(agent: ChaosAgent): Promise<string[]> {
    const late = performance.now() + LOST_MILLISECONDS_MAX
    const newest = new Map<string, string>()
    for (const tag of TAGS.filter((one) => agent.units.includes(one))) {
      const ended = await this.#newestEnded(tag, late)
      const kernel = this.#site.kernels.get(ended?.digest ?? '')
      if (ended?.state === 'succeeded' && kernel !== undefined) newest.set(tag, kernel)
    }
    const at = Date.now()
    agent.start()
    this.#note(`${agent.name} returns to ${[...newest.keys()]}`)
    const problems = await this.#calm()
    const started = agent.journal().filter((line) => line.event === 'started' && line.at >= at)
    const outdated = started.filter(
      ({ unit, kernel }) => newest.has(unit) && newest.get(unit) !== kernel,
    )
    return [
      ...problems,
      ...outdated.map(({ unit, kernel }) => `${agent.name} ${unit} returned to ${kernel}`),
    ]
  }

  async #newestEnded(tag: (typeof TAGS)[number], late: number) {
    for (;;) {
      const newest = await this.#site.newest(tag)
      const isOpen = newest === undefined || ['rolling', 'paused'].includes(newest.state)
      if (!isOpen) return newest
      if (newest?.state === 'paused') await this.#site.act(newest.id, 'resume')
      if (performance.now() > late) return undefined
      await delay(POLL_MILLISECONDS)
    }
  }

  /** Waits until nothing is open, and all hosts run what they should, as the registry knows. Returns what does not come. */
  async #calm(): Promise<string[]> {
    for (const agent of this.#site.agents) agent.start()
    const late = performance.now() + CALM_SECONDS_MAX * 1000
    let hurriedAt = Number.NEGATIVE_INFINITY
    const db = await this.#services.database()
    try {
      for (;;) {
        const wrong = await this.#wrong(db)
        if (wrong.length === 0) return []
        if (performance.now() > late) return wrong
        if (performance.now() - hurriedAt > HURRY_MILLISECONDS) {
          hurriedAt = performance.now()
          for (const agent of this.#site.agents) {
            if (wrong.some((one) => one.includes(agent.name))) agent.hurry()
          }
        }
        await delay(POLL_MILLISECONDS)
      }
    } finally {
      await db.end()
    }
  }

  async #wrong(db: pg.Client): Promise<string[]> {
    const { rows: open } = await db.query<{ id: string; state: string; what: string }>(
      `select distinct d.id, d.state,
              concat_ws(' ', d.tag, d.number, d.state, t.state, h.name) as what
         from deployments d
         left join targets t
           on t.deployment_id = d.id
          and t.state in ('waiting', 'granted', 'fetching', 'starting', 'checking')
         left join hosts h on h.id = t.host_id
        where d.finished_at is null
           or t.state is not null
           or d.rollback_due`,
    )
    for (const { id, state } of open) if (state === 'paused') await this.#site.act(id, 'resume')
    const { rows: units } = await db.query<UnitRow>(
      `select h.name as host, u.name as unit, u.kernel, u.state, u.granted_digest as granted
         from units u
         join hosts h on h.id = u.host_id`,
    )
    const running = this.#site.running()
    const wrong = units.flatMap(({ host, unit, kernel, state, granted }) => {
      const runs = running.get(`${host} ${unit}`) ?? null
      const should = granted === null ? runs : this.#site.kernels.get(granted)
      // A failure after the watch time changes the unit, and not what it should run.
      const isAfterEnd = ['failed', 'rolled-back'].includes(state)
      const mayDiffer =
        isAfterEnd && this.#site.mayFail(host, unit, should ?? undefined, Date.now())
      if (runs === kernel && (runs === should || mayDiffer)) return []
      return [`${host} ${unit} runs ${runs}, should run ${should}, registry: ${state} ${kernel}`]
    })
    return [...open.map(({ what }) => `open: ${what}`), ...wrong]
  }
}
