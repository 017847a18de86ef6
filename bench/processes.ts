/** Reads CPU and memory of a family of processes from Linux's /proc. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const SAMPLE_MILLISECONDS = 200
const POSTMASTER_DEPTH_MAX = 3

/**
 * One line of the process table; `startedAt` distinguishes a process from a later one with its
 * number.
 */
export interface Process {
  pid: number
  parent: number
  ticks: number
  startedAt: string
}

export interface Memory {
  /** VmRSS of the server's main process. */
  mainBytes: number
  /**
   * VmRSS of the main process plus the PSS of all others, in which shared pages count once. The
   * main process counts in full, because it shares only Node's own code, and with the processes of
   * the bench.
   */
  totalBytes: number
}

const ticksPerSecond = () => Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
let clockTicks = 0

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // The process has ended since the folder was listed.
  }
}

function readProcess(pid: string): Process | undefined {
  const text = readText(`/proc/${pid}/stat`)
  if (!text) return undefined
  // pid (command) state ppid ...: the command may hold spaces and brackets, so count from its end.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const field = (number: number) => fields[number - 3] ?? '0'
  // utime, stime, and those of the children that it has waited for. A living child is not in its
  // parent's sum, and a reaped one is not in the table: adding up a family counts each tick once.
  const ticks = [14, 15, 16, 17].reduce((sum, number) => sum + Number(field(number)), 0)
  return { pid: Number(pid), parent: Number(field(4)), ticks, startedAt: field(22) }
}

/** Returns the processes `roots` and all their descendants. */
export function listProcessTree(roots: readonly number[]): Process[] {
  const table: Process[] = []
  for (const name of readdirSync('/proc')) {
    const found = /^\d+$/.test(name) ? readProcess(name) : undefined
    if (found) table.push(found)
  }
  const members = new Set(roots)
  for (let grown = true; grown; ) {
    grown = false
    for (const { pid, parent } of table) {
      if (members.has(pid) || !members.has(parent)) continue
      members.add(pid)
      grown = true
    }
  }
  return table.filter(({ pid }) => members.has(pid))
}

export function isRunning({ pid, startedAt }: Process): boolean {
  const state = readText(`/proc/${pid}/stat`)?.match(/^.*\) (\S)/s)?.[1]
  return state !== undefined && state !== 'Z' && readProcess(String(pid))?.startedAt === startedAt
}

/**
 * Returns the postmasters whose data folders are below `folder`: they may have lost their parent.
 */
export function findPostmasters(folder: string, depth = POSTMASTER_DEPTH_MAX): number[] {
  let entries: { name: string; isDirectory(): boolean }[]
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
  if (entries.some((entry) => entry.name === 'postmaster.pid')) {
    const pid = Number(readText(join(folder, 'postmaster.pid'))?.split('\n')[0])
    // The file outlives a postmaster that was killed, and its number may belong to another process
    // by now.
    return readText(`/proc/${pid}/comm`)?.trim() === 'postgres' ? [pid] : []
  }
  if (depth === 0) return []
  return entries.flatMap((entry) =>
    entry.isDirectory() ? findPostmasters(join(folder, entry.name), depth - 1) : [],
  )
}

export interface Cpu {
  mainSeconds: number
  /** Memory of all processes, the main one included. */
  totalSeconds: number
}

/** Returns the CPU time of the family so far, in user and system mode. */
export function readCpu(main: number, roots: readonly number[]): Cpu {
  clockTicks ||= ticksPerSecond()
  const family = listProcessTree(roots)
  const ticks = family.reduce((sum, member) => sum + member.ticks, 0)
  const mainTicks = family.find(({ pid }) => pid === main)?.ticks ?? 0
  return { mainSeconds: mainTicks / clockTicks, totalSeconds: ticks / clockTicks }
}

function readKilobytes(path: string, name: string): number {
  const found = readText(path)?.match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'))
  return Number(found?.[1] ?? 0) * 1024
}

export function readMemory(main: number, roots: readonly number[]): Memory {
  const mainBytes = readKilobytes(`/proc/${main}/status`, 'VmRSS')
  const others = listProcessTree(roots).filter(({ pid }) => pid !== main)
  const totalBytes = others.reduce(
    (sum, { pid }) => sum + readKilobytes(`/proc/${pid}/smaps_rollup`, 'Pss'),
    mainBytes,
  )
  return { mainBytes, totalBytes }
}

/** Keeps the highest memory, overall and under each label given to `watch`. */
export class MemoryPeaks {
  readonly peaks = new Map<string, Memory>()

  /** Samples `read` while `work` runs. */
  async watch<T>(labels: readonly string[], read: () => Memory, work: () => Promise<T>) {
    const sample = () => {
      const now = read()
      for (const label of labels) {
        const peak = this.peaks.get(label)
        this.peaks.set(label, {
          mainBytes: Math.max(now.mainBytes, peak?.mainBytes ?? 0),
          totalBytes: Math.max(now.totalBytes, peak?.totalBytes ?? 0),
        })
      }
    }
    sample()
    const timer = setInterval(sample, SAMPLE_MILLISECONDS)
    try {
      return await work()
    } finally {
      clearInterval(timer)
      sample()
    }
  }
}
