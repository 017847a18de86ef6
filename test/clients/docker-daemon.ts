import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  CLIENTS,
  type ClientSandbox,
  clientPath,
  hasClient,
  type Ran,
  skipped,
} from './client-sandbox.ts'

const START_MILLISECONDS_MAX = 60_000
const LOOK_EVERY_MILLISECONDS = 20
const STOP_MILLISECONDS_MAX = 20_000
const LOG_CHARACTERS_MAX = 64 * 1024
const PROGRAMS = [
  'docker',
  'docker-buildx',
  'docker-compose',
  'dockerd',
  'containerd',
  'runc',
] as const

/** How a daemon keeps images. They differ in the code that pushes and pulls, and `classic` has no attestations. */
export type ImageStore = 'containerd' | 'classic'
export const IMAGE_STORES: readonly ImageStore[] = ['containerd', 'classic']

const STORE_OPTIONS = {
  containerd: ['--feature', 'containerd-snapshotter=true', '--storage-driver', 'native'],
  classic: ['--storage-driver', 'vfs'],
} as const

/** The daemon gets namespaces of its own, so that its mounts and all its processes end with the first of them. */
const NAMESPACES = ['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
/** Without a network, containers have that of the daemon, which is that of this machine. */
const NO_NETWORK = ['--bridge', 'none', '--userland-proxy=false']
/** The folder of docker-proxy, which publishes ports. */
const PARTS = join(CLIENTS, '../docker.io/usr/sbin')
/** Its /etc is a folder of the test, which may have certificates and names of hosts. */
const WITH_ETC = ['sh', '-c', 'mount --bind "$0" /etc && exec "$@"']
const WITH_LOOPBACK = ['sh', '-c', 'ip link set lo up && exec "$@"', 'sh']

/** Returns true where a daemon of docker can run. Throws in CI where none can; elsewhere it reports the skip. */
export function hasDocker(): boolean {
  if (!PROGRAMS.every(hasClient)) return false
  const [command = '', ...words] = NAMESPACES
  const isAllowed = process.getuid?.() === 0 && spawnSync(command, [...words, 'true']).status === 0
  return isAllowed || skipped('docker', 'its daemon needs root, with the right to mount')
}

/** A daemon of docker with nothing outside of a folder of the sandbox. */
export type DockerDaemon = {
  readonly store: ImageStore
  /** The value of DOCKER_HOST. */
  readonly address: string
  /** A path below its /etc. */
  etc(...path: string[]): string
  /** The words before a command that runs in the network of the daemon. */
  inNetwork(): Promise<readonly string[]>
  /** Ends the daemon with its processes and mounts. */
  stop(): Promise<void>
}

type DockerOptions = {
  /** The file of a certificate authority, which the system of the daemon trusts, and no other. */
  readonly authority?: string | undefined
  /** True: the daemon has a network of its own, in which containers have addresses and publish ports. */
  readonly hasNetwork?: boolean
}

/** Starts a daemon, and waits until it answers. Throws with the end of its log when it does not answer. */
export async function startDocker(
  sandbox: Pick<ClientSandbox, 'folder'>,
  store: ImageStore,
  { authority, hasNetwork = false }: DockerOptions = {},
): Promise<DockerDaemon> {
  const path = (...parts: string[]) => join(sandbox.folder, `docker-${store}`, ...parts)
  await mkdir(path('etc'), { recursive: true })
  for (const name of ['passwd', 'group']) await copyFile(`/etc/${name}`, path('etc', name))
  if (authority !== undefined) {
    await mkdir(path('etc/ssl/certs'), { recursive: true })
    await copyFile(authority, path('etc/ssl/certs/ca-certificates.crt'))
  }
  await writeFile(path('etc/nsswitch.conf'), 'hosts: files\n')
  // Docker does not verify the certificate of an address in 127.0.0.0/8. Linux sends 0.0.0.0 to the same place.
  await writeFile(path('etc/hosts'), '0.0.0.0 localhost\n')
  const folders = ['--data-root', path('data'), '--exec-root', path('exec')]
  const socket = path('socket')
  const files = ['--pidfile', path('pid'), '--host', `unix://${socket}`]
  const network = ['--iptables=false', '--ip6tables=false', ...(hasNetwork ? [] : NO_NETWORK)]
  const daemon = ['dockerd', ...network, ...STORE_OPTIONS[store], ...folders, ...files]
  const namespaces = [...NAMESPACES, ...(hasNetwork ? ['--net', ...WITH_LOOPBACK] : [])]
  const words = [...namespaces, ...WITH_ETC, path('etc'), ...daemon]
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PATH: [dirname(clientPath('dockerd')), process.env.PATH, PARTS].join(delimiter),
      NO_PROXY: '127.0.0.1,localhost',
    },
  })
  const log = logOf(child)
  // Every process of the namespace holds the streams, so they close when the last one is gone.
  const closed = once(child, 'close')
  const stop = async () => {
    await killFirst(child)
    const late = delay(STOP_MILLISECONDS_MAX, undefined, { ref: false }).then(failToStop)
    await Promise.race([closed, late])
  }
  try {
    await answering(child, socket)
  } catch (error) {
    await stop()
    throw new Error(`the daemon of docker did not start: ${log()}`, { cause: error })
  }
  return {
    store,
    address: `unix://${socket}`,
    etc: (...parts) => path('etc', ...parts),
    inNetwork: async () => ['nsenter', '--net', '--target', `${await firstOf(child)}`],
    stop,
  }
}

function logOf({ stdout, stderr }: ChildProcess): () => string {
  let log = ''
  for (const stream of [stdout, stderr]) {
    stream?.on('data', (chunk) => {
      log = (log + chunk).slice(-LOG_CHARACTERS_MAX)
    })
  }
  return () => log
}

async function answering(child: ChildProcess, socketPath: string): Promise<void> {
  const deadline = performance.now() + START_MILLISECONDS_MAX
  while (!(await pings(socketPath))) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`)
    if (performance.now() > deadline) throw new Error(`no answer in ${START_MILLISECONDS_MAX} ms`)
    await delay(LOOK_EVERY_MILLISECONDS)
  }
}

function pings(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const sent = request({ socketPath, path: '/_ping' }, (answer) => {
      answer.resume()
      resolve(answer.statusCode === 200)
    })
    sent.on('error', () => resolve(false))
    sent.end()
  })
}

/** The first process of the namespace; 0 when there is none. */
async function firstOf(parent: ChildProcess): Promise<number> {
  const file = `/proc/${parent.pid}/task/${parent.pid}/children`
  return Number((await readFile(file, 'utf8').catch(() => '')).trim())
}

/** Kills the first process of the namespace, with which all others end; its parent then ends by itself. */
async function killFirst(parent: ChildProcess): Promise<void> {
  const first = await firstOf(parent)
  if (first > 0) process.kill(first, 'SIGKILL')
  else parent.kill('SIGKILL')
}

function failToStop(): never {
  throw new Error(`the daemon of docker did not end in ${STOP_MILLISECONDS_MAX} ms`)
}

/** The command line of docker for a daemon, with the logins of one user. */
export class DockerUser {
  readonly #sandbox: ClientSandbox

  private constructor(sandbox: ClientSandbox) {
    this.#sandbox = sandbox
  }

  static async open(
    sandbox: ClientSandbox,
    daemon: DockerDaemon,
    name: string,
  ): Promise<DockerUser> {
    const own = await sandbox.as(`${name} of ${daemon.store}`)
    // Without a terminal, buildx prints a log.
    Object.assign(own.environment, { DOCKER_HOST: daemon.address, BUILDKIT_PROGRESS: 'plain' })
    const user = new DockerUser(own)
    await mkdir(dirname(user.config), { recursive: true })
    const plugins = { cliPluginsExtraDirs: [dirname(clientPath('docker'))] }
    await writeFile(user.config, JSON.stringify(plugins))
    return user
  }

  /** The file with the stored logins. */
  get config(): string {
    return join(this.#sandbox.home, 'docker/config.json')
  }

  /** The variables that make `docker` the client of this user. */
  get environment(): Record<string, string> {
    return { ...this.#sandbox.environment, DOCKER_CONFIG: dirname(this.config) }
  }

  /** Runs a command of this user in a folder. */
  execute(command: string, args: readonly string[], cwd?: string): Promise<Ran> {
    return this.#sandbox.run(command, args, cwd)
  }

  /** Runs `docker` with the words of a text, and more arguments. */
  run(words: string, ...args: string[]): Promise<Ran> {
    return this.execute('docker', [...words.split(' '), ...args])
  }

  /** Runs `docker`, which must succeed, and returns its standard output. */
  async docker(words: string, ...args: string[]): Promise<string> {
    return this.#sandbox.succeed('docker', [...words.split(' '), ...args])
  }

  /** Runs `docker`, which must fail, and returns all that it printed. */
  async refused(words: string, ...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(words, ...args)
    if (status === 0) throw new Error(`docker ${words} ${args.join(' ')} succeeded: ${stdout}`)
    return stdout + stderr
  }

  /** Logs in with the secret on standard input. */
  login(user: string, secret: string, host = this.#sandbox.host): Promise<Ran> {
    const script = 'printf %s "$2" | docker login --username "$1" --password-stdin "$3"'
    return this.execute('sh', ['-c', script, 'sh', user, secret, host])
  }
}
