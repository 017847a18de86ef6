import { readdirSync, readFileSync } from 'node:fs'

/** A process may start another one while the processes are read: they are read again, at most so often. */
const PASSES_MAX = 10

/**
 * Kills every process whose home folder is this one: the agent of a host, its workers, supervisors and unikernels, also
 * those that a killed agent left behind. Synchronous, so that it works while a process exits.
 */
export function endProcessesOf(folder: string): void {
  for (let pass = 0; pass < PASSES_MAX; pass += 1) {
    const found = processesOf(folder)
    if (found.length === 0) return
    for (const pid of found) {
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It has ended.
      }
    }
  }
}

/** The ids of the processes whose home folder is this one. */
export function processesOf(folder: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && isAtHome(pid, folder))
}

function isAtHome(pid: number, folder: string): boolean {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
    return variables.includes(`HOME=${folder}`)
  } catch {
    // It has ended, or it is another user's.
    return false
  }
}
