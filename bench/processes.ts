/** Reads CPU and memory of a process tree from Linux's /proc. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const SAMPLE_MILLISECONDS = 200
const POSTMASTER_DEPTH_MAX = 3

/** An entry of the process table. `startedAt` distinguishes processes that had the same id. */
export interface Process {
  pid: number
  parent: number
  ticks: number
  /** Without those of reaped children. */
  ownTicks: number
  startedAt: string
}

export interface Memory {
  /** VmRSS of the server's main process. */
  mainBytes: number
  /**
   * `mainBytes` plus the PSS of all other processes, which counts shared pages once. The main process
   * counts in full: it shares Node's code with the processes of the bench.
   */
  totalBytes: number
}

const ticksPerSecond = () => Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
let clockTicks = 0

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined // The process ended after the folder was listed.
  }
}

function readProcess(pid: string): Process | undefined {
  const text = readText(`/proc/${pid}/stat`)
  if (!text) return undefined
  // pid (command) state ppid ...: the command may contain spaces and brackets, so count from its end.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const field = (number: number) => fields[number - 3] ?? '0'
  // utime, stime, and those of reaped children. The parent's sum excludes running children, and the table
  // excludes reaped ones, so the sum over a tree counts each tick once.
  const ticksIn = (fields: number[]) => fields.reduce((sum, one) => sum + Number(field(one)), 0)
  const [ticks, ownTicks] = [ticksIn([14, 15, 16, 17]), ticksIn([14, 15])]
  return { pid: Number(pid), parent: Number(field(4)), ticks, ownTicks, startedAt: field(22) }
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

/** Finds the postmasters whose data folders are below `folder`; their parent may have ended. */
export function findPostmasters(folder: string, depth = POSTMASTER_DEPTH_MAX): number[] {
  let entries: { name: string; isDirectory(): boolean }[]
  try {
    entries = readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
  if (entries.some((entry) => entry.name === 'postmaster.pid')) {
    const pid = Number(readText(join(folder, 'postmaster.pid'))?.split('\n')[0])
    // The file outlives a killed postmaster, and another process may have its id by now.
    return readText(`/proc/${pid}/comm`)?.trim() === 'postgres' ? [pid] : []
  }
  if (depth === 0) return []
  return entries.flatMap((entry) =>
    entry.isDirectory() ? findPostmasters(join(folder, entry.name), depth - 1) : [],
  )
}

export interface Cpu {
  mainSeconds: number
  /** The sum over all processes, including the main one. */
  totalSeconds: number
}

/** Returns the CPU time that the tree has used so far, in user and system mode. */
export function readCpu(main: number, roots: readonly number[]): Cpu {
  clockTicks ||= ticksPerSecond()
  const tree = listProcessTree(roots)
  const ticks = tree.reduce((sum, member) => sum + member.ticks, 0)
  const mainTicks = tree.find(({ pid }) => pid === main)?.ownTicks ?? 0
  return { mainSeconds: mainTicks / clockTicks, totalSeconds: ticks / clockTicks }
}

/** Returns for how many seconds the main thread of a process was ready to run, and waited for a core. */
export function readCoreWait(pid: number): number {
  return Number(readText(`/proc/${pid}/schedstat`)?.split(' ')[1] ?? 0) / 1e9
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

/** Records the highest memory, by label. */
export class MemoryPeaks {
  readonly peaks = new Map<string, Memory>()

  /** Samples `read` while `work` runs, and records the peak under each label. */
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
