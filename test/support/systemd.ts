import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { hasProgram } from './has-program.ts'
import { waitUntil } from './wait-until.ts'

const SYSTEMD = '/lib/systemd/systemd'
const GROUPS = ['/sys/fs/cgroup/systemd', '/sys/fs/cgroup']
const run = promisify(execFile)

/**
 * Boots systemd as process 1 of its own namespaces, with the network of this machine. $1 is the name of its control group, $2 its
 * root folder, empty for that of this machine, $3 the shell lines that prepare its mounts, and $4 its target. The others are
 * variables of systemd.
 */
const BOOT = `
set -e
export root=$2 prepare=$3 target=$4
export group=/sys/fs/cgroup/systemd type=cgroup options=none,name=systemd
[ -e $group/cgroup.procs ] || { group=/sys/fs/cgroup type=cgroup2 options=nsdelegate; }
mkdir -p "$group/$1"
echo $$ > "$group/$1/cgroup.procs"
shift 4
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc --uts --ipc sh -ec '
  eval "$prepare"
  [ $type = cgroup2 ] || { mount -t tmpfs tmpfs "$root/sys/fs/cgroup" && mkdir "$root$group"; }
  mount -t $type -o $options cgroup "$root$group"
  [ -z "$root" ] || { cd "$root" && pivot_root . mnt && umount -l /mnt; }
  exec env -i PATH="$PATH" container=test "$@" ${SYSTEMD} --system --unit="$target" --log-target=journal
' sh "$@"
`

export type Machine = {
  /** The name of its control group: that of no other machine. */
  readonly name: string
  /** Its root folder; that of this machine when it is left out. */
  readonly root?: string
  /** Lines for sh -e that make its mounts. In them $root is its root folder. */
  readonly prepare: string
  readonly target: string
  readonly environment?: Readonly<Record<string, string>>
}

/** A systemd of its own. */
export class Systemd {
  readonly #child: ChildProcess
  readonly #name: string
  #pid = 0

  private constructor(child: ChildProcess, name: string) {
    this.#child = child
    this.#name = name
  }

  /** Boots a machine. Throws where that is impossible: it needs root and namespaces. */
  static async boot({
    name,
    root = '',
    prepare,
    target,
    environment = {},
  }: Machine): Promise<Systemd> {
    const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}`)
    const words = ['-c', BOOT, 'sh', name, root, prepare, target, ...variables]
    const child = spawn('sh', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    const systemd = new Systemd(child, name)
    try {
      await waitUntil(async () => {
        if (child.exitCode !== null) return true
        await systemd.#find()
        return (await systemd.run('systemctl', 'show', '-p', 'Version')).startsWith('Version=')
      })
      if (child.exitCode !== null) throw new Error(said)
    } catch (error) {
      await systemd.stop()
      throw new Error(`systemd does not boot here: ${said}`, { cause: error })
    }
    return systemd
  }

  /** Finds the process that is process 1 inside. */
  async #find(): Promise<void> {
    const { stdout } = await run('pgrep', ['-P', String(this.#child.pid)]).catch(() => ({
      stdout: '',
    }))
    this.#pid = Number(stdout.trim())
  }

  /** Runs a program inside, and returns its output; empty when it fails. */
  async run(...words: string[]): Promise<string> {
    const { stdout } = await run('nsenter', this.enter(words)).catch(() => ({ stdout: '' }))
    return stdout
  }

  /** Returns the arguments of nsenter that run a program inside. */
  enter(words: readonly string[]): string[] {
    return ['-t', String(this.#pid), '-m', '-p', '-C', '-r', '-w', ...words]
  }

  /** Ends everything inside. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await ended
    }
    // Its last processes may take a moment to end.
    const groups = GROUPS.map((group) => `${group}/${this.#name}`).filter(existsSync)
    const words = ['-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+']
    for (const group of groups) {
      await waitUntil(() =>
        run('find', [group, ...words]).then(
          () => true,
          () => !existsSync(group),
        ),
      )
    }
  }
}

/** Whether the programs for it are there. */
export const HAS_SYSTEMD = [
  ...['unshare', 'nsenter', 'pivot_root', 'pgrep'],
  ...['systemctl', 'journalctl'],
].every(hasProgram)
