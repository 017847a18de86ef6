import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { hasProgram } from '../support/has-program.ts'
import { endProcessesOf } from './host-processes.ts'

export const AGENT = join(ROOT, 'agent/rookery-agent')

/** The shells that the agent is for, as far as this machine has them. */
export const SHELLS = ['dash', 'bash --posix', 'busybox ash'].filter((words) =>
  hasProgram(words.split(' ')[0] ?? ''),
)

/** The folders of hosts that were not removed. A test that fails at its start may leave some. */
const UNREMOVED = new Set<string>()
process.once('exit', () => {
  for (const folder of UNREMOVED) endProcessesOf(folder)
})

/** Longest wait for what an agent does, in milliseconds. */
const WAIT_MILLISECONDS_MAX = 60_000

/** A kernel of the tests: a shell script that the exec runner runs, and that marks that it runs. */
export function kernelThat(commands: string): string {
  return `echo "$UNIT starts"\n${commands}\n`
}
/** A kernel that runs until it is stopped. `mark` makes it another kernel. */
export const steady = (mark: string) => kernelThat(`echo 'steady ${mark}'; exec sleep 600`)
/** A kernel that ends with this status. */
export const ending = (status: number, words = 'no stack left') =>
  kernelThat(`echo '${words}'; exit ${status}`)

/** A host with folders of its own for settings and state, and the unchanged agent in one of the shells. */
export class AgentHost {
  readonly folder: string
  readonly shell: string
  printed = ''
  environment: Record<string, string> = {}
  #child: ChildProcess | undefined

  private constructor(folder: string, shell: string) {
    this.folder = folder
    this.shell = shell
  }

  static async create(shell = SHELLS[0] ?? 'sh'): Promise<AgentHost> {
    const host = new AgentHost(await mkdtemp(join(tmpdir(), 'rookery-agent-')), shell)
    UNREMOVED.add(host.folder)
    await mkdir(join(host.folder, 'etc/units'), { recursive: true })
    return host
  }

  get #environment(): NodeJS.ProcessEnv {
    return {
      PATH: process.env.PATH,
      HOME: this.folder,
      AGENT_CONFIG: join(this.folder, 'etc'),
      AGENT_STATE: join(this.folder, 'var'),
      AGENT_SHELL: this.shell,
      NO_PROXY: '127.0.0.1',
      ...this.environment,
    }
  }

  /** The folder of the state of a unit. */
  state(unit: string, file = ''): string {
    return join(this.folder, 'var/units', unit, file)
  }

  /** The text of a file of the state of a unit; empty if there is none. */
  read(unit: string, file: string): string {
    try {
      return readFileSync(this.state(unit, file), 'utf8')
    } catch {
      // The agent removes it, too.
      return ''
    }
  }

  /** Runs a command of the agent to its end. */
  command(...words: string[]): { status: number | null; stdout: string; stderr: string } {
    const [program = 'sh', ...rest] = [...this.shell.split(' '), AGENT, ...words]
    const env = this.#environment
    return spawnSync(program, rest, { encoding: 'utf8', env, timeout: 60_000 })
  }

  async enrol(url: string, code = 'right-code', name = 'web-1'): Promise<void> {
    // Not synchronous: the registry is in this process.
    const { status, output } = await this.run('enrol', url, code, '--name', name)
    expect({ status, output }).toEqual({
      status: 0,
      output: expect.stringContaining('is enrolled'),
    })
  }

  /** Runs a command of the agent to its end, while this process continues. */
  async run(...words: string[]): Promise<{ status: number | null; output: string }> {
    const child = this.#spawn(words)
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        output += chunk
      })
    }
    const [status] = await once(child, 'close')
    return { status, output }
  }

  /** Runs a command of the agent, and kills it with its children after a time, unless it has ended. */
  async runAndKill(milliseconds: number, ...words: string[]): Promise<void> {
    const child = this.#spawn(words)
    const ended = once(child, 'exit')
    const timer = setTimeout(() => process.kill(-(child.pid ?? 0), 'SIGKILL'), milliseconds)
    await ended
    clearTimeout(timer)
  }

  /** Writes the file of a unit of the exec runner, whose kernels are shell scripts. */
  async unit(name: string, settings: Record<string, string> = {}): Promise<void> {
    const all = {
      ...{ repository: 'builds/www', tag: 'live', target: 'hvt', runner: 'exec' },
      ...{ start: 'exec sh "$KERNEL"', ...settings },
    }
    const lines = Object.entries(all).map(([key, value]) => `${key}=${value}\n`)
    await writeFile(join(this.folder, 'etc/units', name), lines.join(''))
  }

  #spawn(words: readonly string[]): ChildProcess {
    const [program = 'sh', ...rest] = [...this.shell.split(' '), AGENT, ...words]
    // In a process group of its own, so that a kill ends its workers, too.
    return spawn(program, rest, {
      ...{ env: this.#environment, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
    })
  }

  start(): void {
    const child = this.#spawn(['run'])
    child.stderr?.on('data', (chunk) => {
      this.printed += chunk
    })
    this.#child = child
  }

  /** Kills the agent and its workers, or with `alone` only its main process. */
  async kill(alone = false): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    process.kill(alone ? child.pid : -child.pid, 'SIGKILL')
    await ended
  }

  /** Asks the agent to end, as a service manager does. */
  async stop(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }

  reload(): void {
    this.#child?.kill('SIGHUP')
  }

  /** The process id of the unikernel of a unit, or undefined. */
  pid(unit: string): number | undefined {
    const text = this.read(unit, 'child').trim()
    if (text === '') return undefined
    try {
      process.kill(Number(text), 0)
      return Number(text)
    } catch {
      return undefined
    }
  }

  /** Ends the agent and all unikernels, and removes the folder. */
  async remove(): Promise<void> {
    await this.kill()
    endProcessesOf(this.folder)
    UNREMOVED.delete(this.folder)
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }

  /** Waits until a condition holds, and shows what the agent printed when it does not. */
  async until(holds: () => unknown, what: string): Promise<void> {
    const deadline = performance.now() + WAIT_MILLISECONDS_MAX
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`never: ${what}\n${this.printed}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** The kernel that is in place. */
  kernelBytes(unit: string): Promise<Buffer> {
    return readFile(this.state(unit, 'kernel'))
  }

  /** The same, of a kernel that is a script. */
  async kernelFile(unit: string): Promise<string> {
    return (await this.kernelBytes(unit)).toString()
  }
}
