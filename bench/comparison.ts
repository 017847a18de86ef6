/** Measures all servers on one kind of store, row by row. */
import { freemem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Load, measure, type SeededServer } from './measure.ts'
import { type Bucket, OBJECT_STORE_BYTES_MAX, ObjectStore } from './object-store.ts'
import { type Memory, MemoryPeaks, readMemory } from './processes.ts'
import { profileArguments } from './profile.ts'
import type { MemoryReport, Result } from './report.ts'
import { isFor, type Row, type StoreName } from './rows.ts'
import { Seeds } from './seed.ts'
import {
  BEFORE,
  type Server,
  type ServerName,
  startDockerRegistry,
  startRookery,
  startSdkServer,
} from './servers.ts'

/** The time after the run in which a server must have given memory back. */
const LATER_MILLISECONDS = 60_000

/** Memory that the S3 server needs beside its content. */
const OBJECT_STORE_OVERHEAD_BYTES = 2 * 1024 ** 3

export interface ComparisonOptions {
  store: StoreName
  /** The folder for all files. */
  folder: string
  names: readonly ServerName[]
  /** Rookery's built main file. */
  main: string
  /** That of the other build; undefined without one. */
  before: string | undefined
  quick: boolean
  rounds: number
  /** The folder for Rookery's profiles; undefined for none. */
  profiles: string | undefined
}

interface ComparedServer extends SeededServer {
  idle: Memory
  bucket: Bucket | undefined
}

/** Starts the servers, measures rows on them, and stops them. */
export class Comparison {
  readonly #options: ComparisonOptions
  readonly #servers: ComparedServer[] = []
  readonly #starting: Promise<{ stop(): Promise<void> }>[] = []
  #objectStore: ObjectStore | undefined
  #load: Load | undefined
  #stopped = false

  constructor(options: ComparisonOptions) {
    this.#options = options
  }

  get store(): StoreName {
    return this.#options.store
  }

  async start(): Promise<void> {
    const { store, folder, names } = this.#options
    if (store === 's3') this.#objectStore = await this.#startObjectStore(join(folder, 's3'))
    for (const name of names) {
      const bucket = await this.#objectStore?.createBucket(`bench-${name}`)
      if (this.#stopped) return
      const server = await this.#keep(this.#startServer(name, bucket))
      await this.#settle()
      const idle = readMemory(server.mainPid, server.roots())
      const seeds = new Seeds(server)
      this.#servers.push({ server, seeds, peaks: new MemoryPeaks(), idle, bucket })
    }
  }

  /** Measures all rows, until one of the servers ends. */
  async measureRows(rows: readonly Row[], begin: (row: Row) => void): Promise<Result[]> {
    const results: Result[] = []
    for (const row of rows) {
      if (this.#stopped || this.#exitReason() !== undefined) break
      begin(row)
      results.push(await this.#measureRow(row))
    }
    const reason = this.#objectStore?.exitReason
    if (reason !== undefined) results.at(-1)?.failures.push(`the S3 server ${reason}`)
    return results
  }

  async readMemories(): Promise<Map<ServerName, MemoryReport>> {
    await this.#settle()
    const read = ({ server }: ComparedServer) => readMemory(server.mainPid, server.roots())
    const afters = this.#servers.map(read)
    const { quick, before } = this.#options
    const waits = !quick && before === undefined && !this.#stopped
    if (waits) await wait(LATER_MILLISECONDS)
    const memories = this.#servers.map((compared, at) => {
      const { server, peaks, idle } = compared
      const now = read(compared)
      const later = waits ? now : undefined
      return [server.name, { idle, peaks: peaks.peaks, after: afters[at] ?? now, later }] as const
    })
    return new Map(memories)
  }

  /** Stops all servers, also those that are still starting. A second call does nothing. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#load?.stop()
    const started = await Promise.allSettled(this.#starting.splice(0))
    const running = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
    const isStore = (one: object) => one instanceof ObjectStore
    // The servers first, because they write to the store.
    await Promise.all(running.filter((one) => !isStore(one)).map((one) => one.stop()))
    await Promise.all(running.filter(isStore).map((one) => one.stop()))
  }

  #exitReason(): string | undefined {
    const reasons = this.#servers.map(({ server }) => server.exitReason)
    return [this.#objectStore?.exitReason, ...reasons].find((reason) => reason !== undefined)
  }

  async #settle(): Promise<void> {
    await wait(this.#options.quick ? 1000 : 5000)
  }

  #keep<T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> {
    this.#starting.push(starting)
    return starting
  }

  #startObjectStore(folder: string): Promise<ObjectStore> {
    const needed = OBJECT_STORE_BYTES_MAX + OBJECT_STORE_OVERHEAD_BYTES
    if (freemem() < needed) {
      const text = `${Math.ceil(needed / 1e9)} GB of free memory`
      throw new Error(`the S3 server keeps everything in memory: it needs ${text}`)
    }
    return this.#keep(ObjectStore.start(folder))
  }

  #startServer(name: ServerName, bucket: Bucket | undefined): Promise<Server> {
    const { folder, main, before, profiles } = this.#options
    const own = join(folder, name)
    if (name === 'docker-registry') return startDockerRegistry(own, bucket)
    if (name === 'rookery') {
      const nodeArguments = profiles === undefined ? [] : profileArguments(profiles)
      return startRookery(own, { main, nodeArguments, bucket })
    }
    if (name === BEFORE) {
      if (before === undefined) throw new Error('there is no other build')
      return startRookery(own, { main: before, name, bucket })
    }
    if (!bucket) throw new Error(`${name} needs S3`)
    return startSdkServer(own, name, bucket)
  }

  /**
   * Measures a row on each server, one directly after the other, in the same state of the machine, and the next round in the
   * other order. Other load on the machine only adds cost, so the cheapest round is the most accurate.
   */
  async #measureRow(row: Row): Promise<Result> {
    const result: Result = { row, by: {}, costs: {}, failures: [] }
    const able = this.#servers.filter(({ server }) => isFor(row, server.name))
    for (let round = 0; round < this.#options.rounds; round++) {
      const ordered = round % 2 === 0 ? able : able.toReversed()
      for (const compared of ordered) await this.#measureRound(compared, round, result)
    }
    return result
  }

  async #measureRound(compared: ComparedServer, round: number, result: Result): Promise<void> {
    if (this.#stopped) return
    const { server, bucket } = compared
    const { row } = result
    const [store, pushesTo] = [this.#objectStore, row.writes ? bucket : undefined]
    this.#load ??= new Load()
    try {
      const kept = pushesTo && (await store?.listKeys(pushesTo))
      const roots = () => store?.roots() ?? []
      const found = await measure(row, compared, this.#load, roots)
      const costs = result.costs[server.name] ?? []
      costs[round] = found.cost
      result.costs[server.name] = costs
      const best = result.by[server.name]
      if (!best || found.cost < best.cost) result.by[server.name] = found
      if (pushesTo && kept) await store?.clear(pushesTo, kept)
    } catch (error) {
      result.failures.push((error as Error).message)
      this.#load.stop()
      this.#load = undefined
    }
  }
}
