import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { vi } from 'vitest'
import { type ClientSandbox, clientPath, type Ran } from './client-sandbox.ts'

const START_MILLISECONDS_MAX = 30_000

/** Plugins that need a kernel module, write outside of the folder, or run containers. */
const DISABLED = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.internal.v1.opt',
  'io.containerd.nri.v1.nri',
  ...['blockfile', 'btrfs', 'devmapper', 'overlayfs', 'zfs'].map(
    (one) => `io.containerd.snapshotter.v1.${one}`,
  ),
]

/** A containerd whose data is in the folder of the sandbox. */
export class Containerd {
  readonly #sandbox: ClientSandbox
  readonly #process: ChildProcess
  readonly socket: string

  private constructor(sandbox: ClientSandbox, process: ChildProcess, socket: string) {
    this.#sandbox = sandbox
    this.#process = process
    this.socket = socket
  }

  static async start(sandbox: ClientSandbox): Promise<Containerd> {
    const folder = join(sandbox.folder, 'containerd')
    const socket = join(folder, 'socket')
    await mkdir(folder)
    const config = `version = 2
root = "${folder}/root"
state = "${folder}/state"
disabled_plugins = ${JSON.stringify(DISABLED)}
[grpc]
address = "${socket}"
[ttrpc]
address = "${socket}.ttrpc"
`
    await writeFile(join(folder, 'config.toml'), config)
    // containerd needs root, at least that of a user namespace.
    const asRoot = process.getuid?.() === 0 ? [] : ['unshare', '--map-root-user', '--mount']
    const [command = '', ...rest] = [...asRoot, clientPath('containerd')]
    const args = [...rest, '--config', join(folder, 'config.toml')]
    const child = spawn(command, args, { stdio: 'ignore' })
    const daemon = new Containerd(sandbox, child, socket)
    const ready = async () => existsSync(socket) && (await daemon.run('version')).status === 0
    try {
      await vi.waitUntil(ready, { timeout: START_MILLISECONDS_MAX, interval: 50 })
    } catch (error) {
      await daemon.stop()
      throw error
    }
    return daemon
  }

  /** Runs ctr. */
  run(...args: readonly string[]): Promise<Ran> {
    return this.#sandbox.run('ctr', ['--address', this.socket, ...args])
  }

  /** Runs ctr, which must succeed. */
  succeed(...args: readonly string[]): Promise<string> {
    return this.#sandbox.succeed('ctr', ['--address', this.socket, ...args])
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    await exited
  }
}
