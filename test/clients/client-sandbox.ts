import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { storeSettings } from '../support/s3.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

const runFile = promisify(execFile)
const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** Folder of the programs that scripts/get-clients.sh fetched. */
export const CLIENTS = join(process.env.CLIENTS_DIR ?? join(ROOT, '.cache/clients'), 'bin')
const COMMAND_MILLISECONDS_MAX = 120_000
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024

export const BUILD = join(ROOT, 'test/fixtures/builds/hello-key-1')
export const ELF = join(ROOT, 'test/fixtures/elf')
export const PASSWORD = 'pulled out of a hat'

/** Folders in which a program is looked for, and how to install it. */
type Place = { folders: readonly string[]; how: string }

const FETCHED: Place = { folders: [CLIENTS], how: 'run scripts/get-clients.sh (Debian)' }

function installed(aptPackage: string): Place {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return { folders, how: `apt-get install --no-install-recommends ${aptPackage}` }
}

/** Where each client is looked for. */
export const PLACES = {
  apptainer: FETCHED,
  buildah: FETCHED,
  containerd: FETCHED,
  cosign: FETCHED,
  crane: FETCHED,
  docker: FETCHED,
  'docker-buildx': FETCHED,
  'docker-compose': FETCHED,
  dockerd: FETCHED,
  notation: FETCHED,
  oras: FETCHED,
  podman: FETCHED,
  runc: FETCHED,
  skopeo: FETCHED,
  umoci: FETCHED,
  webhook: FETCHED,
  nginx: installed('nginx-light'),
  caddy: installed('caddy'),
  chromium: installed('chromium'),
} as const satisfies Record<string, Place>

/**
 * Returns true when the client is installed. Throws in CI without it; elsewhere it reports the
 * skip.
 */
export function hasClient(client: keyof typeof PLACES): boolean {
  const { folders, how } = PLACES[client]
  if (folders.some((folder) => existsSync(join(folder, client)))) return true
  return skipped(client, `${client} is not in ${folders.join(', ')}: ${how}`)
}

/** Reports that the tests with a client are skipped, and returns false. Throws in CI, where none may be skipped. */
export function skipped(client: string, reason: string): false {
  if (process.env.CI !== undefined) throw new Error(reason)
  process.stderr.write(`\nSKIPPED: the tests with ${client}, because ${reason}\n`)
  return false
}

/** Returns the path of an installed client. */
export function clientPath(client: keyof typeof PLACES): string {
  const { folders } = PLACES[client]
  const folder = folders.find((one) => existsSync(join(one, client)))
  if (folder === undefined) throw new Error(`${client} is not installed`)
  return join(folder, client)
}

export type Ran = { status: number; stdout: string; stderr: string }

/** A running registry, a working folder, and clients whose configuration stays in that folder. */
export class ClientSandbox {
  readonly server: ServerProcess
  readonly folder: string
  /** Host and port, as clients name the registry. */
  readonly host: string
  /** Variables that every client gets besides those of this process. */
  readonly environment: Record<string, string> = {}
  /** Where the clients of this user keep their configuration. */
  readonly home: string

  private constructor(server: ServerProcess, folder: string, home = folder) {
    this.server = server
    this.folder = folder
    this.host = server.url.replace('http://', '')
    this.home = home
  }

  static async open(settings: Record<string, string> = {}): Promise<ClientSandbox> {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-clients-'))
    try {
      const server = await startProcess({
        ROOKERY_DATA_DIR: join(folder, 'data'),
        ROOKERY_ADMIN_PASSWORD: PASSWORD,
        ...(await storeSettings()),
        ...settings,
      })
      return new ClientSandbox(server, folder)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  }

  /** Returns the same registry for another user: its clients have logins of their own. */
  async as(user: string): Promise<ClientSandbox> {
    const home = join(this.folder, 'users', user)
    await mkdir(home, { recursive: true })
    const other = new ClientSandbox(this.server, this.folder, home)
    Object.assign(other.environment, this.environment)
    return other
  }

  async close(): Promise<void> {
    const status = await stopProcess(this.server)
    await rm(this.folder, { recursive: true, force: true })
    expect(status).toBe(0)
  }

  /** The variables of a client of this user. */
  get variables(): Record<string, string> {
    return {
      PATH: `${CLIENTS}:${process.env.PATH}`,
      HOME: this.home,
      DOCKER_CONFIG: join(this.home, 'docker'),
      REGISTRY_AUTH_FILE: join(this.home, 'auth.json'),
      // As root, skopeo, podman and buildah keep files in /var/lib/containers, unless the user behind
      // root is another one.
      _CONTAINERS_ROOTLESS_UID: '1',
      XDG_DATA_HOME: join(this.home, 'share'),
      XDG_CONFIG_HOME: join(this.home, '.config'),
      // The registry is on this machine: clients must not use a proxy of the environment.
      NO_PROXY: '127.0.0.1',
      no_proxy: '127.0.0.1',
      ...this.environment,
    }
  }

  /** Runs a client, and returns its status and output. */
  async run(command: string, args: readonly string[], cwd = this.folder): Promise<Ran> {
    const env = { ...process.env, ...this.variables }
    const options = {
      cwd,
      env,
      timeout: COMMAND_MILLISECONDS_MAX,
      maxBuffer: OUTPUT_BYTES_MAX,
    }
    try {
      return { status: 0, ...(await runFile(command, args, options)) }
    } catch (error) {
      const { code, stdout = '', stderr = '' } = error as Record<string, string>
      // A command that timed out or was not found has printed nothing; the error has the reason.
      return { status: Number(code ?? 1) || 1, stdout, stderr: stderr || String(error) }
    }
  }

  /** Runs a client that must succeed, and returns its standard output. */
  async succeed(command: string, args: readonly string[], cwd = this.folder): Promise<string> {
    const ran = await this.run(command, args, cwd)
    expect(ran.status, `${command} ${args.join(' ')}\n${ran.stderr}`).toBe(0)
    return ran.stdout
  }

  oras(args: readonly string[], cwd?: string): Promise<string> {
    return this.succeed('oras', args, cwd)
  }

  /** Runs oras with the credential of the administrator on the command line. */
  orasAsAdmin(args: readonly string[], cwd?: string): Promise<string> {
    const [command = '', ...rest] = args
    const words = command.split(' ')
    return this.oras([...words, '--plain-http', '-u', 'admin', '-p', PASSWORD, ...rest], cwd)
  }

  curl(args: readonly string[]): Promise<string> {
    return this.succeed('curl', ['-fsSL', ...args])
  }

  /** Calls the API as the administrator, and returns the answer. */
  async api(method: string, path: string, body?: unknown): Promise<Response> {
    const answer = await fetch(`${this.server.url}/api/v1/${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(this.credential).toString('base64')}`,
        'content-type': 'application/json',
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    expect(answer.ok, `${method} ${path}: ${answer.status}`).toBe(true)
    return answer
  }

  get credential(): string {
    return `admin:${PASSWORD}`
  }

  /** Returns the peak resident memory of the server's main process in KiB. */
  async memoryPeak(): Promise<number> {
    const status = await readFile(`/proc/${this.server.child.pid}/status`, 'utf8')
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1])
  }
}
