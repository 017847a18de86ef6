/** Starts and stops the servers to compare. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { basename, join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { findPostmasters, isRunning, listFamily } from './processes.ts'

const START_MILLISECONDS_MAX = 60_000
const STOP_MILLISECONDS_MAX = 20_000
const OUTPUT_TAIL_CHARACTERS = 2000

export type ServerName = 'rookery' | 'docker-registry'

export class Server {
  readonly name: ServerName
  readonly origin: string
  /** Header lines that authorize pushes. */
  readonly credentials: string
  readonly #child: Child
  readonly #folder: string

  constructor(name: ServerName, origin: string, credentials: string, child: Child, folder: string) {
    this.name = name
    this.origin = origin
    this.credentials = credentials
    this.#child = child
    this.#folder = folder
  }

  get mainPid(): number {
    return this.#child.pid
  }

  /** Why the server is not running any more, or undefined. */
  get death(): string | undefined {
    return this.#child.death
  }

  /** The processes from which all others of this server descend. */
  roots(): number[] {
    return rootsOf(this.#child, this.#folder)
  }

  stop(): Promise<void> {
    return this.#child.stop(this.roots())
  }
}

function rootsOf(child: Child, folder: string): number[] {
  // The number of a child that ended may by now be another process.
  const own = child.death === undefined && child.pid > 0 ? [child.pid] : []
  return [...own, ...findPostmasters(join(folder, 'postgres'))]
}

/** A child process with the end of what it wrote, in a process group of its own. */
class Child {
  readonly pid: number
  output = ''
  readonly #process: ChildProcess
  #death: string | undefined

  constructor(command: string, args: string[], stdout: 'ignore' | 'pipe', env: NodeJS.ProcessEnv) {
    this.#process = spawn(command, args, { stdio: ['ignore', stdout, 'pipe'], env, detached: true })
    this.pid = this.#process.pid ?? 0
    const keep = (text: string) => {
      this.output = (this.output + text).slice(-OUTPUT_TAIL_CHARACTERS)
    }
    this.#process.stdout?.setEncoding('utf8').on('data', keep)
    this.#process.stderr?.setEncoding('utf8').on('data', keep)
    this.#process.on('exit', (code, signal) => {
      this.#death = `ended with ${signal ?? code}: ${this.output.trim().slice(-300)}`
    })
    this.#process.on('error', (error) => {
      this.#death = error.message
      keep(error.message)
    })
  }

  get death(): string | undefined {
    return this.#death
  }

  /** Waits until `probe` gives something; if it never does, leaves nothing running. */
  async until<T>(folder: string, probe: () => T | undefined | Promise<T | undefined>): Promise<T> {
    const end = Date.now() + START_MILLISECONDS_MAX
    while (Date.now() < end && !this.#death) {
      const found = await probe()
      if (found !== undefined) return found
      await wait(50)
    }
    await this.stop(rootsOf(this, folder))
    throw new Error(`${basename(folder)} did not start: ${this.output.trim()}`)
  }

  /** SIGTERM, and SIGKILL for whatever of the family still runs after the time is up. */
  async stop(roots: number[]): Promise<void> {
    const family = listFamily(roots)
    if (!this.#death) {
      const exit = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      await Promise.race([exit, wait(STOP_MILLISECONDS_MAX, undefined, { ref: false })])
    }
    const end = Date.now() + 2000
    while (family.some(isRunning) && Date.now() < end) await wait(50)
    for (const member of family.filter(isRunning)) process.kill(member.pid, 'SIGKILL')
  }
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** The peer's version, or undefined when it is not installed. */
export function findDockerRegistry(): string | undefined {
  try {
    return execFileSync('docker-registry', ['--version'], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
}

/** Filesystem storage, deletes, no authorization; the access log goes to /dev/null. */
export async function startDockerRegistry(folder: string): Promise<Server> {
  const port = await findFreePort()
  const origin = `http://127.0.0.1:${port}`
  mkdirSync(folder, { recursive: true })
  const config = join(folder, 'config.yml')
  writeFileSync(
    config,
    JSON.stringify({
      version: 0.1,
      log: { level: 'error' },
      storage: {
        filesystem: { rootdirectory: join(folder, 'storage') },
        delete: { enabled: true },
      },
      http: { addr: `127.0.0.1:${port}` },
    }),
  )
  const child = new Child('docker-registry', ['serve', config], 'ignore', process.env)
  await child.until(folder, async () => {
    const answer = await fetch(`${origin}/v2/`).catch(() => undefined)
    return answer?.status === 200 ? true : undefined
  })
  return new Server('docker-registry', origin, '', child, folder)
}

/** The built server with its defaults: embedded Postgres, blobs on disk. */
export async function startRookery(
  main: string,
  folder: string,
  nodeArguments: string[] = [],
): Promise<Server> {
  const password = randomBytes(18).toString('base64url')
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ROOKERY_'))
  const env = {
    ...Object.fromEntries(inherited),
    ROOKERY_LISTEN: '127.0.0.1:0',
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: password,
  }
  const child = new Child(process.execPath, [...nodeArguments, main, 'serve'], 'pipe', env)
  const origin = await child.until(folder, () => {
    return /http:\/\/127\.0\.0\.1:[1-9]\d*/.exec(child.output)?.[0]
  })
  const basic = Buffer.from(`admin:${password}`).toString('base64')
  return new Server('rookery', origin, `Authorization: Basic ${basic}\r\n`, child, folder)
}
