/** Measures one row on one server. */
import { type ChildProcess, fork } from 'node:child_process'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Order, Outcome, Report } from './load.ts'
import { type Cpu, type MemoryPeaks, readCpu, readMemory } from './processes.ts'
import { memoryLabelsOf, type Row, titleOf, unitsMaxOn } from './rows.ts'
import type { Seeds } from './seed.ts'
import type { Server } from './servers.ts'
import { lowerPriority } from './worker.ts'

const ORDER_MILLISECONDS_MAX = 180_000
/** Work that a server does after its response counts for the row, too. */
const SETTLE_MILLISECONDS = 250

export interface Measurement extends Outcome {
  cpuSeconds: number
  /** The share of the main process; the database used the rest. */
  mainShare: number
  /** CPU seconds per 1000 units, or per GB. */
  cost: number
  /** Units or MB per second. */
  rate: number
  /** The CPU of the S3 server meanwhile, in the unit of `cost`; undefined without one. */
  storeCost?: number
  /** The time of the load, on the monotonic clock, in microseconds. */
  window: { start: number; end: number }
}

/** The parent's side of load.ts. */
export class Load {
  readonly #worker: ChildProcess = fork(fileURLToPath(new URL('load.ts', import.meta.url)))

  /** `nice`: how much lower its priority is than that of this process. */
  constructor({ nice = 0 } = {}) {
    lowerPriority(this.#worker, nice)
  }

  async order(order: Order): Promise<Report> {
    return await new Promise<Report>((resolve, reject) => {
      const end = (act: () => void) => {
        clearTimeout(timer)
        this.#worker.off('message', onReport).off('exit', onExit)
        act()
      }
      const onReport = (report: Report) => end(() => resolve(report))
      const onExit = () => end(() => reject(new Error('the load process ended')))
      const timer = setTimeout(() => {
        this.stop()
        end(() =>
          reject(new Error(`the load did not finish within ${ORDER_MILLISECONDS_MAX / 1000} s`)),
        )
      }, ORDER_MILLISECONDS_MAX)
      this.#worker.on('message', onReport).on('exit', onExit)
      this.#worker.send(order)
    })
  }

  stop(): void {
    this.#worker.kill('SIGKILL')
  }
}

const now = () => Number(process.hrtime.bigint() / 1000n)

/** Like `load.order`, and throws when the load failed. */
export async function orderFrom(load: Load, order: Order): Promise<Report> {
  const report = await load.order(order)
  if (report.report === 'failed') throw new Error(report.message)
  return report
}

/** A server, its seeds and its memory peaks. */
export interface SeededServer {
  server: Server
  seeds: Seeds
  peaks: MemoryPeaks
}

/** Measures a row on a server. `storeRoots` returns the processes of the S3 server; empty without one. */
export async function measure(
  row: Row,
  { server, seeds, peaks }: SeededServer,
  load: Load,
  storeRoots: () => number[],
): Promise<Measurement> {
  try {
    await seeds.prepare(row)
    const { connections, warmUps, secondsMax } = row
    const unitsMax = unitsMaxOn(row, server.name)
    const { origin, credentials, bearer } = server
    const work = row.work()
    const job = { origin, credentials, bearer, work, connections, warmUps, unitsMax, secondsMax }
    await orderFrom(load, { order: 'prepare', job })
    await wait(SETTLE_MILLISECONDS)
    const roots = server.roots()
    return await peaks.watch(
      memoryLabelsOf(row),
      () => readMemory(server.mainPid, roots),
      async () => {
        const store = storeRoots()
        const [before, storeBefore] = [readCpu(server.mainPid, roots), readCpu(0, store)]
        const start = now()
        const report = await orderFrom(load, { order: 'go' })
        const end = now()
        await wait(SETTLE_MILLISECONDS)
        const [after, storeAfter] = [readCpu(server.mainPid, roots), readCpu(0, store)]
        if (report.report !== 'done') throw new Error('the load process sent an unexpected report')
        const storeSeconds = storeAfter.totalSeconds - storeBefore.totalSeconds
        return {
          ...measurementOf(row, report.outcome, before, after),
          ...(store.length > 0 && { storeCost: costOf(row, report.outcome, storeSeconds) }),
          window: { start, end },
        }
      },
    )
  } catch (error) {
    const reason = server.exitReason ?? (error as Error).message
    throw new Error(`${titleOf(row)} on ${server.name}: ${reason}`, { cause: error })
  }
}

/** Thousands of units, or GB. */
function amountOf(row: Row, { units }: Outcome): number {
  return row.per === 'byte' ? (units * row.bytes) / 1e9 : units / 1000
}

function costOf(row: Row, outcome: Outcome, cpuSeconds: number): number {
  return cpuSeconds / amountOf(row, outcome)
}

function measurementOf(row: Row, outcome: Outcome, before: Cpu, after: Cpu) {
  const cpuSeconds = after.totalSeconds - before.totalSeconds
  const mainShare = (after.mainSeconds - before.mainSeconds) / cpuSeconds
  const rate = (amountOf(row, outcome) * 1000) / outcome.seconds
  return { ...outcome, cpuSeconds, mainShare, cost: costOf(row, outcome, cpuSeconds), rate }
}
