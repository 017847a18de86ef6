import { readFile } from 'node:fs/promises'
import { errnoOf } from '../async/errno.ts'

/** Whether a process other than this one has the pid. */
export function isAnotherProcess(pid: number): boolean {
  // In a container each start may have the same pid, so ours is no sign of another.
  if (pid === process.pid) return false
  return exists(pid)
}

/**
 * Whether a living Postgres has the pid. A pid that was given to something else (a thread of
 * ours, in a container) does not count, nor does a zombie that no parent waits for.
 */
export async function isPostgres(pid: number): Promise<boolean> {
  if (!exists(pid)) return false
  if (process.platform !== 'linux') return true
  try {
    // |pid (name) state ...|
    const [, name, state] = /\((.*)\) (\S)/s.exec(await readFile(`/proc/${pid}/stat`, 'utf8')) ?? []
    return name === 'postgres' && state !== 'Z'
  } catch (error) {
    // ENOENT, ESRCH: it ended meanwhile.
    return exists(pid) && errnoOf(error) !== 'ESRCH'
  }
}

/** Whether a signal was sent; false when nobody was there to get it. */
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
