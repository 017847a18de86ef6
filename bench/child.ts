/** Child processes that the bench starts and stops. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { basename } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { isRunning, listProcessTree } from './processes.ts'

const START_MILLISECONDS_MAX = 60_000
const STOP_MILLISECONDS_MAX = 20_000
const OUTPUT_TAIL_CHARACTERS = 2000

export interface ChildOptions {
  /** A pipe stays open until this process ends. */
  stdin?: 'ignore' | 'pipe'
  stdout: 'ignore' | 'pipe'
  env: NodeJS.ProcessEnv
}

/** A child process in its own process group, with the last part of its output. */
export class Child {
  readonly pid: number
  output = ''
  readonly #process: ChildProcess
  #exitReason: string | undefined

  constructor(
    command: string,
    args: readonly string[],
    { stdin = 'ignore', stdout, env }: ChildOptions,
  ) {
    this.#process = spawn(command, args, { stdio: [stdin, stdout, 'pipe'], env, detached: true })
    this.pid = this.#process.pid ?? 0
    const keep = (text: string) => {
      this.output = (this.output + text).slice(-OUTPUT_TAIL_CHARACTERS)
    }
    this.#process.stdout?.setEncoding('utf8').on('data', keep)
    this.#process.stderr?.setEncoding('utf8').on('data', keep)
    // A child that ended closes its end of the pipe; 'exit' reports the end.
    this.#process.stdin?.on('error', () => {})
    this.#process.on('exit', (code, signal) => {
      this.#exitReason = `ended with ${signal ?? code}: ${this.output.trim().slice(-300)}`
    })
    this.#process.on('error', (error) => {
      this.#exitReason = error.message
      keep(error.message)
    })
  }

  /** The reason why it ended; undefined while it runs. */
  get exitReason(): string | undefined {
    return this.#exitReason
  }

  /** Its process id while it runs; afterwards the system may give the id to another process. */
  roots(): number[] {
    return this.#exitReason === undefined && this.pid > 0 ? [this.pid] : []
  }

  /** Waits until `probe` returns a value. If it never does, stops all processes below `roots`, and throws. */
  async until<T>(
    folder: string,
    roots: () => number[],
    probe: () => T | undefined | Promise<T | undefined>,
  ): Promise<T> {
    const end = Date.now() + START_MILLISECONDS_MAX
    while (Date.now() < end && !this.#exitReason) {
      const found = await probe()
      if (found !== undefined) return found
      await wait(50)
    }
    await this.stop(roots())
    await wait(50) // The last output of a child may arrive after its end.
    throw new Error(`${basename(folder)} did not start: ${this.output.trim()}`)
  }

  /** Sends SIGTERM, and SIGKILL to the processes of the tree that still run when the time is over. */
  async stop(roots: readonly number[]): Promise<void> {
    const tree = listProcessTree(roots)
    if (!this.#exitReason) {
      const exit = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      await Promise.race([exit, wait(STOP_MILLISECONDS_MAX, undefined, { ref: false })])
    }
    const end = Date.now() + 2000
    while (tree.some(isRunning) && Date.now() < end) await wait(50)
    for (const member of tree.filter(isRunning)) process.kill(member.pid, 'SIGKILL')
  }
}

/** Returns a port that was free a moment ago. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
