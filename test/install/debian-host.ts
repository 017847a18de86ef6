import { execFile } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'vitest'
import { Systemd } from '../support/systemd.ts'
import type { Ended } from './project-copy.ts'

const runFile = promisify(execFile)
const CREATE_MILLISECONDS_MAX = 240_000
const RUN_MILLISECONDS_MAX = 120_000
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024
const LIBRARY = '/usr/lib/systemd/system'

/**
 * Mounts of the machine: its kernel settings are those of this machine, so it may only read them. With the devices come those
 * for shared memory.
 */
const PREPARE = `
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
`

/** A minimal Debian in a folder, as a host on which somebody installs packages. */
export class DebianHost {
  readonly root: string
  #systemd: Systemd | undefined

  private constructor(root: string) {
    this.root = root
  }

  /**
   * Installs the release of Debian that this machine has, from the sources of its apt, into a new folder. Its control group has
   * the name of the folder above. Needs root.
   */
  static async create(root: string): Promise<DebianHost> {
    const { uri, suite } = await findSource()
    const options = [
      ...['--mode=root', '--variant=minbase', '--include=systemd,procps', '--quiet'],
      '--dpkgopt=force-unsafe-io',
    ]
    await runFile('mmdebstrap', [...options, suite, root, uri], {
      timeout: CREATE_MILLISECONDS_MAX,
      maxBuffer: OUTPUT_BYTES_MAX,
    })
    const host = new DebianHost(root)
    // Only the journal and what a package enables starts: no login on the console of this machine, and no update by a timer.
    await host.succeed(
      `cd ${LIBRARY} && find . -path '*.wants/*' ! -name '*journald*' -delete && rm -rf /etc/systemd/system/*.wants`,
    )
    return host
  }

  /** The path of a file of the host, on this machine. */
  path(path: string): string {
    return join(this.root, path)
  }

  /** Boots the host: its enabled services start. Throws where namespaces are not allowed. */
  async boot(): Promise<void> {
    this.#systemd = await Systemd.boot({
      name: basename(dirname(this.root)),
      root: this.root,
      prepare: PREPARE,
      target: 'multi-user.target',
    })
  }

  /** Runs a line of a shell on the host as root: beside its services when it is booted. */
  async shell(line: string): Promise<Ended> {
    const environment = [
      'env',
      '-i',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'LC_ALL=C',
    ]
    const words = [...environment, 'DEBIAN_FRONTEND=noninteractive', 'bash', '-c', line]
    const [program, before] =
      this.#systemd === undefined
        ? ['unshare', this.#alone()]
        : ['nsenter', this.#systemd.enter([])]
    const options = { timeout: RUN_MILLISECONDS_MAX, maxBuffer: OUTPUT_BYTES_MAX }
    return runFile(program, [...before, ...words], options).then(
      (output) => ({ status: 0, ...output }),
      ({ code, signal, stdout, stderr }) => ({ status: code ?? signal, stdout, stderr }),
    )
  }

  /** Runs a line of a shell that must succeed, and returns its output. */
  async succeed(line: string): Promise<string> {
    const ended = await this.shell(line)
    expect(ended, `${line}\n${ended.stdout}${ended.stderr}`).toMatchObject({ status: 0 })
    return ended.stdout
  }

  /** Ends its services, and removes it. */
  async remove(): Promise<void> {
    await this.#systemd?.stop()
    await rm(this.root, { recursive: true, force: true })
  }

  /** A process in the folder alone, with a /proc and the devices: as a script has it that makes an image of a host. */
  #alone(): string[] {
    const mounts =
      'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$0" "$@"'
    return ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-ec', mounts, this.root]
  }
}

/** Finds the mirror from which apt of this machine has its own release. */
async function findSource(): Promise<{ uri: string; suite: string }> {
  const [, suite = ''] =
    /^VERSION_CODENAME=(.*)$/m.exec(await readFile('/etc/os-release', 'utf8')) ?? []
  const format = '$(REPO_URI) $(RELEASE) $(COMPONENT)'
  const words = ['indextargets', '--format', format, 'Created-By: Packages']
  const { stdout } = await runFile('apt-get', words)
  const found = stdout.split('\n').find((line) => line.endsWith(` ${suite} main`))
  if (found === undefined) throw new Error(`the sources of apt have no main of ${suite}`)
  return { uri: found.split(' ')[0] ?? '', suite }
}
