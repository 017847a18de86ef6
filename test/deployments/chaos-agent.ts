import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { AgentHost } from '../agent/agent-host.ts'
import { makeCode } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'

/** A kernel runs until it is stopped, or it ends with status 2 before its check can pass, or once a moment after that. */
export const KERNEL_BEHAVIOURS = ['steady', 'crash', 'late'] as const
export type KernelBehaviour = (typeof KERNEL_BEHAVIOURS)[number]

/**
 * The start command of a unit. The last word of a kernel says what it does. Everything that happens is a line of the
 * journal: milliseconds since 1970, the unit, the event, the digest of the kernel and the process.
 */
const RUN = `#!/bin/sh
digest=sha256:$(sha256sum < "$KERNEL" | cut -c 1-64)
behaviour=$(tail -c 7 "$KERNEL" | sed 's/.* //')
say() { echo "$(date +%s%3N) $UNIT $1 $digest $$" >> "$JOURNAL"; }
say started
echo "$behaviour starts"
if [ "$behaviour" = crash ]; then say ended; exit 2; fi
echo "$digest $$" > "$JOURNAL.$UNIT.$$" && mv "$JOURNAL.$UNIT.$$" "$JOURNAL.$UNIT"
trap 'say stopped; exit 0' TERM
seconds=6000 once="$JOURNAL.$UNIT.$(echo "$digest" | cut -c 8-20)"
if [ "$behaviour" = late ] && [ ! -e "$once" ]; then seconds=0.7; touch "$once"; fi
sleep $seconds &
wait $!
say ended
exit 2
`

/** The check of a unit: the process that was started with this kernel is alive. */
const CHECK = `#!/bin/sh
digest=sha256:$(sha256sum < "$KERNEL" | cut -c 1-64)
for try in 1 2 3 4 5; do
  read -r running pid 2>/dev/null < "$JOURNAL.$UNIT" || running=
  if [ "$running" = "$digest" ] && kill -0 "$pid"; then
    echo "$(date +%s%3N) $UNIT checked $digest $pid" >> "$JOURNAL"
    exit 0
  fi
  sleep 0.1
done
echo "runs $running"
exit 1
`

/** A line of the journal of a host. */
export type JournalLine = {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly unit: string
  readonly event: 'started' | 'checked' | 'stopped' | 'ended'
  readonly kernel: string
  readonly pid: number
}

/** Where the worker of a unit is, as its files say. `granted`: it has an answer, and has not begun. */
export const STAGES = [
  'granted',
  'fetching',
  'starting',
  'checking',
  'healthy',
  'restoring',
] as const
export type Stage = (typeof STAGES)[number]

/** The processes of an agent that a kill ends. The kernel and its supervisor live on. */
export const KILLED = ['group', 'main', 'worker'] as const

const STAGE_POLL_MILLISECONDS = 8
/** In this time a shell has read the agent, which a signal would end before. */
const START_MILLISECONDS = 4_000

/** The real agent with the exec runner, whose kernels are a script that keeps a journal. */
export class ChaosAgent {
  readonly name: string
  readonly units: readonly string[]
  readonly kills = { group: 0, main: 0, worker: 0 }
  readonly stages = new Map<Stage, number>()
  readonly #host: AgentHost
  isRunning = false
  #startedAt = 0

  private constructor(name: string, units: readonly string[], host: AgentHost) {
    this.name = name
    this.units = units
    this.#host = host
  }

  /** Enrols an agent, whose units follow the tags of the same names, and starts it. */
  static async create(
    registry: TestRegistry,
    url: string,
    name: string,
    repository: string,
    units: readonly string[],
  ): Promise<ChaosAgent> {
    const host = await AgentHost.create()
    const journal = join(host.folder, 'journal')
    host.environment = { JOURNAL: journal }
    const [run, check] = [join(host.folder, 'run.sh'), join(host.folder, 'check.sh')]
    await Promise.all([writeFile(run, RUN), writeFile(check, CHECK), writeFile(journal, '')])
    const code = await makeCode(registry, { name, repositories: [repository] })
    const enrolled = await host.run('enrol', url, code, '--name', name)
    expect(enrolled, enrolled.output).toMatchObject({ status: 0 })
    const settings = readFileSync(join(host.folder, 'etc/agent.conf'), 'utf8')
    await writeFile(join(host.folder, 'etc/agent.conf'), `${settings}tenders=hvt:2\n`)
    for (const unit of units) {
      await host.unit(unit, {
        ...{ repository, tag: unit, start: `exec sh ${run}`, check: `exec:sh ${check}` },
        verify: 'sleep 0.1',
      })
    }
    const agent = new ChaosAgent(name, units, host)
    agent.start()
    return agent
  }

  start(): void {
    if (this.isRunning) return
    this.isRunning = true
    this.#startedAt = performance.now()
    this.#host.start()
  }

  /** Kills the agent, or only one of its processes, with SIGKILL. A worker that was killed has left the others alone. */
  async kill(killed: (typeof KILLED)[number], unit: string): Promise<void> {
    if (killed === 'worker') {
      const pid = Number(this.#host.read(unit, 'lock').split(' ')[0])
      // The lock may be that of a worker that has just ended.
      if (pid > 1 && isWorker(pid)) {
        process.kill(pid, 'SIGKILL')
        this.kills.worker += 1
      }
      return
    }
    if (!this.isRunning) return
    this.kills[killed] += 1
    await this.#host.kill(killed === 'main')
    this.isRunning = false
  }

  /** Waits until the worker of a unit is in a stage. False: it was not until the time is over. */
  async reach(unit: string, stage: Stage, milliseconds: number): Promise<boolean> {
    const late = performance.now() + milliseconds
    while (!this.#isIn(unit, stage)) {
      if (performance.now() > late) return false
      await delay(STAGE_POLL_MILLISECONDS)
    }
    this.stages.set(stage, (this.stages.get(stage) ?? 0) + 1)
    return true
  }

  #isIn(unit: string, stage: Stage): boolean {
    const state = this.#host.read(unit, 'state')
    if (stage === 'granted') {
      const [kernel = '-'] = this.#host.read(unit, 'wanted').split(' ')
      return kernel.startsWith('sha256:') && !state.includes(kernel)
    }
    const [present, , , , settles] = state.split(' ')
    return present === stage && (stage !== 'healthy' || Number(settles) * 1000 > Date.now())
  }

  /** Makes the agent look at everything at once, as after a change of its files. One that has just started does so itself. */
  hurry(): void {
    if (!this.isRunning || performance.now() - this.#startedAt < START_MILLISECONDS) return
    this.#host.reload()
  }

  journal(): JournalLine[] {
    const path = join(this.#host.folder, 'journal')
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [at, unit = '', event, kernel = '', pid] = line.split(' ')
        return { at: Number(at), unit, event, kernel, pid: Number(pid) } as JournalLine
      })
  }

  /** The digest of the kernel whose process is alive, read from the outside; null: none is. */
  running(unit: string): string | null {
    const path = join(this.#host.folder, `journal.${unit}`)
    if (!existsSync(path)) return null
    const [kernel = '', pid] = readFileSync(path, 'utf8').trim().split(' ')
    return isAlive(Number(pid)) ? kernel : null
  }

  /** Kills the process of a unikernel. */
  killKernel(unit: string): boolean {
    const pid = this.#host.pid(unit)
    if (pid === undefined) return false
    try {
      process.kill(-pid, 'SIGKILL')
      return true
    } catch (error) {
      // It has just ended by itself.
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
      throw error
    }
  }

  get printed(): string {
    return this.#host.printed
  }

  get folder(): string {
    return this.#host.folder
  }

  remove(): Promise<void> {
    return this.#host.remove()
  }
}

function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('run.sh')
  } catch {
    return false
  }
}

function isWorker(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('rookery-agent')
  } catch {
    return false
  }
}
