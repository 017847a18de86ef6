import { readFile } from 'node:fs/promises'
import { errnoOf } from '../async/errno.ts'

/** True when a process other than this one has the pid. */
export function isAnotherProcess(pid: number): boolean {
  // In a container every start may get the same pid, so our own pid is not another process.
  if (pid === process.pid) return false
  return exists(pid)
}

/**
 * True when a running Postgres has the pid. Another process with the pid does not count (in a container,
 * it may be a thread of ours), and neither does a zombie that no parent waits for.
 */
export async function isPostgres(pid: number): Promise<boolean> {
  if (!exists(pid)) return false
  if (process.platform !== 'linux') return true
  try {
    // |pid (name) state ...|
    const [, name, state] = /\((.*)\) (\S)/s.exec(await readFile(`/proc/${pid}/stat`, 'utf8')) ?? []
    return name === 'postgres' && state !== 'Z'
  } catch (error) {
    // ENOENT, ESRCH: the process ended meanwhile.
    return exists(pid) && errnoOf(error) !== 'ESRCH'
  }
}

/** Sends a signal. Returns false when the process does not exist. */
export function sendSignal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false
    throw error
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return errnoOf(error) === 'EPERM'
  }
}
