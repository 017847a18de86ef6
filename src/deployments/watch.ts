import { setTimeout as delay } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { Batcher } from '../async/batcher.ts'
import type { Database, Queryable } from '../db/database.ts'
import {
  type DeploymentFilter,
  type DeploymentRow,
  findDeployments,
  type LogRow,
  listDeploymentLogs,
  listDeployments,
  listTargets,
  type TargetRow,
} from '../db/deployments/deployment-reads.ts'
import { findLastLog, hasLogs } from '../db/deployments/unit-logs.ts'
import { scanDeployments } from '../db/deployments/visible-deployments.ts'
import { findRepository, type View } from '../db/registry/repositories.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Glob } from '../oci/glob.ts'
import type { DeploymentSignals } from './signals.ts'
import type { DeploymentState } from './states.ts'

export type { DeploymentFilter, DeploymentRow, LogRow, TargetRow }

/** A deployment with its targets. */
export type WatchedDeployment = DeploymentRow & { readonly targets: readonly TargetRow[] }

/** A page of deployments, which may have fewer than its limit. */
export type DeploymentPage = {
  readonly deployments: readonly DeploymentRow[]
  /** The id before which the next page begins; undefined at the end. Nobody may see it: encrypt it. */
  readonly next: string | undefined
}

/** Targets of one answer; `counts` has all of them. */
export const TARGETS_MAX = 1000
/** Deployments that one statement reads. */
const DEPLOYMENTS_AT_ONCE = 100
/** A pooler may lose notifications, so those who wait read again after this time. */
const READ_AGAIN_MILLISECONDS = 5_000
/** Time between the starts of two reads of a deployment for those who wait: a thousand hosts report within seconds. */
const BETWEEN_READS_MILLISECONDS_MIN = 20
const BETWEEN_READS_MILLISECONDS_MAX = 2_000
/** A large deployment is read for a quarter of the time. */
const READ_SHARE = 4
/** Deployments whose last read is remembered. */
const REMEMBERED_MAX = 1_000

/** Result of a look at a deployment: its end, more to read now, or nothing more before its next change. */
export type Looked = 'end' | 'more' | 'wait'

/** The reads of one deployment for those who wait. */
type Reads = {
  startedAt: number
  pauseMilliseconds: number
  next: Promise<WatchedDeployment | undefined> | undefined
}

/** Deployments for those who made them. Requests that wait for changes share their reads. */
export class DeploymentWatch {
  readonly #db: Database
  readonly #signals: DeploymentSignals
  readonly #reads: Batcher<string, WatchedDeployment | undefined>
  readonly #lastLogs: Batcher<string, number>
  readonly #shared = new LRUCache<string, Reads>({ max: REMEMBERED_MAX })

  constructor(db: Database, signals: DeploymentSignals) {
    this.#db = db
    this.#signals = signals
    this.#reads = new Batcher((ids) => read(db, ids), DEPLOYMENTS_AT_ONCE)
    this.#lastLogs = new Batcher((ids) => findLastLogs(db, ids), DEPLOYMENTS_AT_ONCE)
  }

  /** Reads a deployment as it is now; undefined: there is none of this id. */
  read(id: string): Promise<WatchedDeployment | undefined> {
    return this.#reads.load(id)
  }

  /**
   * Reads a deployment for a request that waits: not before the call, at most every BETWEEN_READS_MILLISECONDS, and once for
   * all who ask meanwhile.
   */
  async readNext(id: string): Promise<WatchedDeployment | undefined> {
    const shared = this.#shared.get(id) ?? {
      ...{ startedAt: -Infinity, pauseMilliseconds: BETWEEN_READS_MILLISECONDS_MIN },
      next: undefined,
    }
    this.#shared.set(id, shared)
    shared.next ??= this.#readLater(id, shared)
    return shared.next
  }

  async #readLater(id: string, shared: Reads): Promise<WatchedDeployment | undefined> {
    const early = shared.startedAt + shared.pauseMilliseconds - performance.now()
    await (early > 0 ? delay(early) : undefined)
    // A later call gets the next read.
    shared.next = undefined
    shared.startedAt = performance.now()
    const found = await this.read(id)
    shared.pauseMilliseconds = Math.min(
      Math.max(BETWEEN_READS_MILLISECONDS_MIN, READ_SHARE * (performance.now() - shared.startedAt)),
      BETWEEN_READS_MILLISECONDS_MAX,
    )
    return found
  }

  /** Lists deployments of a repository, newest first, without their targets. Throws NAME_UNKNOWN. */
  async list(
    db: Queryable,
    view: View,
    filter: DeploymentFilter,
    before: string | undefined,
    limit: number,
  ): Promise<DeploymentRow[]> {
    const found = await this.listOf(db, view, filter, limit, before)
    if (found.length === 0 && (await findRepository(db, view)) === undefined) {
      throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    }
    return found
  }

  /** Does the same for a repository that the caller knows: one that the view does not have has no deployments. */
  listOf(
    db: Queryable,
    view: View,
    filter: DeploymentFilter,
    limit: number,
    before?: string,
  ): Promise<DeploymentRow[]> {
    return listDeployments(db, view, filter, before, limit)
  }

  /**
   * Lists deployments of all repositories before an id, newest first, without their targets: those of public repositories, and
   * of private ones that match `visible` and that the caller may see.
   */
  async listVisible(
    db: Queryable,
    state: DeploymentState | undefined,
    visible: readonly Glob[],
    maySee: (deployment: DeploymentRow) => boolean,
    before: string | undefined,
    limit: number,
  ): Promise<DeploymentPage> {
    const { deployments, last } = await scanDeployments(db, state, visible, before, limit + 1)
    const found = deployments.slice(0, limit)
    const next = deployments.length > limit ? found.at(-1)?.id : last
    return { deployments: found.filter(maySee), next }
  }

  /** Lists what the kernels of a deployment printed after the entry `after`. No entry comes later with an id before the last. */
  async logs(id: string, after: number, limit: number): Promise<LogRow[]> {
    if (!(await hasLogs(this.#db, id, after))) return []
    return listDeploymentLogs(this.#db, id, after, await this.#lastLogs.load(id), limit)
  }

  /**
   * Calls `look` now, at once again after `more`, and whenever the deployment may have changed, until it returns `end`, the
   * signal is aborted or the time is over. `look` reads by `readNext`. Nothing changes between a read and the wait for the next one without another read.
   */
  async follow(
    id: string,
    milliseconds: number,
    signal: AbortSignal,
    look: () => Promise<Looked>,
  ): Promise<void> {
    const deadline = performance.now() + milliseconds
    let isChanged = false
    let wake = () => {}
    const leave = this.#signals.listen((notice) => {
      if (notice !== undefined && (notice.kind === 'host' || notice.id !== id)) return
      isChanged = true
      wake()
    })
    try {
      while (!signal.aborted) {
        isChanged = false
        const looked = await look()
        const left = deadline - performance.now()
        if (looked === 'end' || left <= 0) return
        if (isChanged || looked === 'more') continue
        await pause(Math.min(left, READ_AGAIN_MILLISECONDS), signal, (end) => {
          wake = end
        })
      }
    } finally {
      leave()
    }
  }
}

/** Resolves after the time, when the signal is aborted, or when the function that `onStart` gets is called. */
async function pause(
  milliseconds: number,
  signal: AbortSignal,
  onStart: (end: () => void) => void,
): Promise<void> {
  if (signal.aborted) return
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, milliseconds)
    signal.addEventListener('abort', end)
    onStart(end)
  })
}

async function findLastLogs(db: Database, ids: readonly string[]): Promise<number[]> {
  const found = new Map<string, number>()
  for (const id of new Set(ids)) found.set(id, await db.transaction((tx) => findLastLog(tx, id)))
  return ids.map((id) => found.get(id) ?? 0)
}

async function read(
  db: Queryable,
  ids: readonly string[],
): Promise<(WatchedDeployment | undefined)[]> {
  const different = [...new Set(ids)]
  const [rows, targets] = await Promise.all([
    findDeployments(db, different),
    listTargets(db, different, TARGETS_MAX),
  ])
  const byId = new Map(
    rows.map((row) => [
      row.id,
      { ...row, targets: targets.filter(({ deploymentId }) => deploymentId === row.id) },
    ]),
  )
  return ids.map((id) => byId.get(id))
}
