import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Batcher } from '../async/batcher.ts'
import { Loop } from '../async/loop.ts'
import type { Database } from '../db/database.ts'
import { type DesiredRow, listDesired, listDesiredVersions } from '../db/deployments/desired.ts'
import type { DeploymentNotice } from '../db/deployments/notifications.ts'
import { type DesiredUnit, desiredUnit } from './desired-unit.ts'
import type { ImageKernelsCache } from './image-kernels.ts'
import type { DeploymentSignals } from './signals.ts'
import { WaitingHosts, type WaitingPlace } from './waiting-hosts.ts'

/** Hosts that one statement reads. */
const HOSTS_AT_ONCE = 500
/** A change whose notification was lost is found after this time. */
const CHECK_SECONDS = 5
/** The time between two looks at all hosts that wait: notifications within it are answered by one statement. */
const GATHER_MILLISECONDS = 50
/** How often a wait reads again what turned out to be unchanged. */
const READS_MAX = 1_000

/** The desired units of a host, as of one time. */
export type Desired = {
  readonly units: readonly DesiredUnit[]
  /** Changes when a unit is granted another digest. */
  readonly version: string
}

export type DesiredOptions = {
  readonly db: Database
  readonly kernels: ImageKernelsCache
  readonly signals: DeploymentSignals
  /** Hosts that wait at the same time. */
  readonly hostsMax?: number
  onError(error: unknown): void
}

/** Returns the version that `listDesiredVersions` has for these units of one host. */
function versionOf(rows: readonly DesiredRow[]): string {
  const texts = rows.map(({ name, grantedDigest, grantedBy }) =>
    [name, grantedDigest, grantedBy].filter((part) => part !== null).join(' '),
  )
  return texts.length === 0 ? '' : createHash('md5').update(texts.join(',')).digest('hex')
}

/**
 * Answers what hosts should run, and lets them wait for a change. A statement answers all requests that arrive together,
 * and another one finds the changed hosts among all that wait in this process.
 */
export class DesiredUnits {
  readonly waiting: WaitingHosts
  readonly #options: DesiredOptions
  readonly #reads: Batcher<number, Desired>
  readonly #checks: Loop
  readonly #deployments = new Set<string>()
  #isAnything = false
  #noticed = 0
  #checkedAt = performance.now()
  #lookedAt = performance.now()
  #stopListening = () => {}

  constructor(options: DesiredOptions) {
    this.#options = options
    this.waiting = new WaitingHosts(options.hostsMax)
    this.#reads = new Batcher((ids) => this.#readMany(ids), HOSTS_AT_ONCE)
    this.#checks = new Loop({
      everySeconds: CHECK_SECONDS,
      work: (signal) => this.#check(signal),
      onError: options.onError,
    })
  }

  /** Begins to notify the hosts that wait. */
  start(): void {
    this.#stopListening = this.#options.signals.listen((notice) => this.#receive(notice))
    this.#checks.start()
  }

  async stop(): Promise<void> {
    this.#stopListening()
    this.waiting.close()
    await this.#checks.stop()
  }

  /** Reads what a host should run. */
  read(hostId: number): Promise<Desired> {
    return this.#reads.load(hostId)
  }

  /**
   * Returns what a host should run: at once when `isKnown` is false for it, otherwise after a change, a notice to the host,
   * its next request, or `waitSeconds`. `isEnded`: the host sent another request, or the server stops. `place`: the place of a
   * request that waits several times. Throws TOOMANYREQUESTS when it has none, and too many hosts wait.
   */
  async wait(
    hostId: number,
    isKnown: (desired: Desired) => boolean,
    waitSeconds: number,
    signal: AbortSignal,
    place?: WaitingPlace,
  ): Promise<{ readonly desired: Desired; readonly isEnded: boolean }> {
    const deadline = performance.now() + waitSeconds * 1000
    let taken = place
    try {
      for (let reads = 0; ; reads += 1) {
        const noticed = this.#noticed
        const desired = await this.read(hostId)
        const left = deadline - performance.now()
        if (!isKnown(desired) || left <= 0 || reads === READS_MAX) {
          return { desired, isEnded: false }
        }
        taken ??= this.waiting.enter(hostId)
        const waiting = taken.wait(desired.version, left, signal)
        // A notice arrived after the statement had begun, and before the host waited.
        if (noticed !== this.#noticed) this.#receive(undefined)
        const end = await waiting
        if (end === 'replaced' || end === 'closed') return { desired, isEnded: true }
        // A wait that ends in time is followed by the next request of the host, which reads again.
        if (end === 'time') return { desired, isEnded: false }
        if (end === 'host') return { desired: await this.read(hostId), isEnded: false }
      }
    } finally {
      if (place === undefined) taken?.leave()
    }
  }

  #receive(notice: DeploymentNotice | undefined): void {
    // A report changes nothing that other hosts should run.
    if (notice?.kind === 'deployment' || notice?.kind === 'planned') return
    this.#noticed += 1
    if (notice?.kind === 'host') {
      this.waiting.wake(notice.id)
      return
    }
    if (notice === undefined) this.#isAnything = true
    else this.#deployments.add(notice.id)
    if (this.waiting.count > 0) this.#checks.poke()
  }

  /** Wakes the hosts that wait and should run something else now. */
  async #check(signal: AbortSignal): Promise<void> {
    const isNotified = this.#isAnything || this.#deployments.size > 0
    const isDue = !isNotified || performance.now() - this.#checkedAt >= CHECK_SECONDS * 1000
    const early = this.#lookedAt + GATHER_MILLISECONDS - performance.now()
    if (isNotified && early > 0) await delay(early, undefined, { signal })
    this.#lookedAt = performance.now()
    const deployments = this.#isAnything || isDue ? undefined : [...this.#deployments]
    this.#deployments.clear()
    this.#isAnything = false
    if (deployments === undefined) this.#checkedAt = performance.now()
    const hostIds = this.waiting.hostIds()
    if (hostIds.length === 0) return
    const found = await listDesiredVersions(this.#options.db, hostIds, deployments)
    const versions = new Map(found.map(({ hostId, version }) => [hostId, version]))
    for (const id of deployments === undefined ? hostIds : versions.keys()) {
      this.waiting.wakeIfOther(id, versions.get(id) ?? '')
    }
  }

  async #readMany(ids: readonly number[]): Promise<Desired[]> {
    const rows = await listDesired(this.#options.db, [...new Set(ids)])
    const kernelsOf = await this.#options.kernels.load(
      rows.flatMap(({ repository, grantedDigest }) =>
        grantedDigest === null ? [] : [{ repository, digest: grantedDigest }],
      ),
    )
    const byHost = new Map<number, DesiredRow[]>(ids.map((id) => [id, []]))
    for (const row of rows) byHost.get(row.hostId)?.push(row)
    return ids.map((id) => {
      const own = byHost.get(id) ?? []
      const units = own.map((row) => {
        const { repository, grantedDigest } = row
        const image = grantedDigest && kernelsOf({ repository, digest: grantedDigest })
        return desiredUnit(row, image ?? undefined)
      })
      return { units, version: versionOf(own) }
    })
  }
}
