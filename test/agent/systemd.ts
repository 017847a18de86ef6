import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../house/tree.ts'
import { hasProgram } from '../support/has-program.ts'
import { waitUntil } from '../support/wait-until.ts'
import { AGENT } from './agent-host.ts'

const SYSTEMD = '/lib/systemd/systemd'
const UNITS = '/lib/systemd/system'
const JOURNAL = ['systemd-journald.service', 'systemd-journald.socket']
const run = promisify(execFile)

/**
 * Boots systemd as process 1 of its own namespaces, with only the units of the folder $1. The host is seen as it is, except
 * that /run, /var/lib and /usr/local/bin are empty; the folders $2/etc and $2/var are those of the agent.
 */
const BOOT = `
set -e
group=/sys/fs/cgroup/systemd type=cgroup options=none,name=systemd
[ -e $group/cgroup.procs ] || { group=/sys/fs/cgroup type=cgroup2 options=nsdelegate; }
mkdir -p "$group/$3"
echo $$ > "$group/$3/cgroup.procs"
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc --uts --ipc sh -ec '
  for folder in /run /var/lib /var/log /usr/local/bin; do mount -t tmpfs tmpfs $folder; done
  mkdir -p /run/lock /run/rookery /var/lib/rookery
  mount --bind "$2/etc" /run/rookery
  mount --bind "$2/var" /var/lib/rookery
  cp "$4" /usr/local/bin/rookery-agent
  [ $6 = cgroup2 ] || { mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir $5; }
  mount -t $6 -o $7 cgroup $5
  exec env -i PATH="$PATH" container=test SYSTEMD_UNIT_PATH="$1" ${SYSTEMD} --system --unit=test.target --log-target=journal
' sh "$1" "$2" "$3" "$4" "$group" "$type" "$options"
`

/** A systemd of its own, with the services of this repository. */
export class Systemd {
  readonly #child: ChildProcess
  #pid = 0

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  /**
   * Starts the service of the agent, whose folders are in `folder`, and makes `unikernel@NAME` a service that runs its kernel
   * as a shell script. Throws where systemd cannot be booted, which needs root and namespaces.
   */
  static async boot(folder: string): Promise<Systemd> {
    const units = join(folder, 'units')
    await mkdir(units)
    const own = ['agent/rookery-agent.service', 'docs/examples/unikernel@.service']
    for (const path of [
      ...own.map((one) => join(ROOT, one)),
      ...JOURNAL.map((one) => join(UNITS, one)),
    ]) {
      await cp(path, join(units, basename(path)))
    }
    for (const target of ['sysinit', 'basic', 'shutdown']) {
      await writeFile(join(units, `${target}.target`), '[Unit]\n')
    }
    await writeFile(
      join(units, 'test.target'),
      `[Unit]\nWants=${JOURNAL.join(' ')} rookery-agent.service\n`,
    )
    await extend(units, 'rookery-agent', 'Environment=AGENT_CONFIG=/run/rookery')
    await extend(
      units,
      'unikernel@',
      'ExecStart=\nExecStart=/bin/sh /var/lib/unikernels/%i.hvt\nEnvironmentFile=\nSupplementaryGroups=',
    )
    const words = ['-c', BOOT, 'sh', units, folder, basename(folder), AGENT]
    const child = spawn('sh', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr?.on('data', (chunk) => {
      said += chunk
    })
    const systemd = new Systemd(child)
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
    const enter = ['-t', String(this.#pid), '-m', '-p', '-C']
    const { stdout } = await run('nsenter', [...enter, ...words]).catch(() => ({ stdout: '' }))
    return stdout
  }

  /** Ends everything inside. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}

function extend(units: string, service: string, lines: string): Promise<void> {
  const folder = join(units, `${service}.service.d`)
  return mkdir(folder).then(() => writeFile(join(folder, 'test.conf'), `[Service]\n${lines}\n`))
}

/** Whether the programs for it are there. */
export const HAS_SYSTEMD = ['unshare', 'nsenter', 'pgrep', 'systemctl', 'journalctl'].every(
  hasProgram,
)
