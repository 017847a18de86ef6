import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import { errnoOf } from '../async/errno.ts'

/** The process that serves a cluster. */
export type PostmasterIdentity = { readonly uid: number; readonly cluster: string }

const PS_MILLISECONDS_MAX = 5_000
const DELETED = ' (deleted)'

/** True when a process other than this one has the pid. */
export function isAnotherProcess(pid: number): boolean {
  // In a container every start may get the same pid, so our own pid is not another process.
  if (pid === process.pid) return false
  return exists(pid)
}

/**
 * True when the pid is a running Postgres of this user in this cluster. A pid comes from a file that the user of
 * Postgres can write, so its uid, program and folder are compared, and nothing else is ever signalled.
 */
export function isPostmaster(pid: number, { uid, cluster }: PostmasterIdentity): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 1 || !exists(pid)) return false
  if (process.platform !== 'linux') return isPostgresByPs(pid, uid)
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    // Real, effective, saved and file system uid. A zombie has no program.
    const uids = /^Uid:\s*(.*)$/m.exec(status)?.[1]?.split(/\s+/) ?? []
    if (!uids.every((one) => Number(one) === uid) || /^State:\s*Z/m.test(status)) return false
    const program = basename(readlinkSync(`/proc/${pid}/exe`).replace(DELETED, ''))
    return program === 'postgres' && readlinkSync(`/proc/${pid}/cwd`) === cluster
  } catch {
    // It ended meanwhile, or belongs to another user.
    return false
  }
}

function isPostgresByPs(pid: number, uid: number): boolean {
  try {
    const options = { timeout: PS_MILLISECONDS_MAX, encoding: 'utf8' } as const
    const line = execFileSync('ps', ['-o', 'uid=,comm=', '-p', String(pid)], options).trim()
    const [, owner, program = ''] = /^(\d+)\s+(.*)$/.exec(line) ?? []
    return Number(owner) === uid && basename(program) === 'postgres'
  } catch {
    return false
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

/** The pids of all processes; none where the system does not list them in /proc. */
export function listPids(): string[] {
  return namesIn('/proc').filter((name) => /^\d+$/.test(name))
}

/** The entries of a folder; none where the system has no such folder. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
