import { setTimeout as delay } from 'node:timers/promises'
import { forEachConcurrent } from '../async/for-each.ts'
import { Loop } from '../async/loop.ts'
import type { Database } from '../db/database.ts'
import { listDueDeployments, postponeDeployment } from '../db/deployments/deployments.ts'
import { findMissedUnits, MISSED_UNITS_SECONDS } from './missed-units.ts'
import { advanceDeployment } from './round.ts'
import type { DeploymentSignals } from './signals.ts'

export type DeploymentControllerOptions = {
  readonly db: Database
  readonly signals: DeploymentSignals
  /** Moves the tag of a failed deployment back. */
  rollBack(deployment: string): Promise<void>
  /** Called after each commit that has events. */
  onCommitted(): void
  onError(error: unknown): void
}

/** How often due deployments are looked for. Notifications of their changes come at once. */
const POLL_SECONDS = 1
/** Deployments of one round. The others follow in the next. */
const DEPLOYMENTS_PER_ROUND_MAX = 200
/** Deployments that a process advances at the same time. */
const CONCURRENCY = 4
/** The time between the starts of two rounds: a thousand hosts report within a second, and share rounds. */
const ROUND_MILLISECONDS_MIN = 50
/** Rounds of large deployments take longer, and leave three times as much to the hosts that report. */
const ROUND_SHARE = 4
const ROUND_MILLISECONDS_MAX = 1_000
/** Steps of one deployment, before others have their turn. */
const STEPS_MAX = 5
/** A deployment that cannot be advanced does not keep others from it. */
const RETRY_SECONDS = 5

/**
 * Advances deployments in the background: at once when a notification names one, and when its time has come. Every process
 * runs one; the lock of a deployment's row decides which of them takes a step.
 */
export class DeploymentController {
  readonly #options: DeploymentControllerOptions
  readonly #loop: Loop
  readonly #search: Loop
  readonly #named = new Set<string>()
  #leave = () => {}
  #startedAt = 0
  #pauseMilliseconds = ROUND_MILLISECONDS_MIN

  constructor(options: DeploymentControllerOptions) {
    this.#options = options
    this.#loop = new Loop({
      everySeconds: POLL_SECONDS,
      work: (signal) => this.#round(signal),
      onError: options.onError,
    })
    this.#search = new Loop({
      everySeconds: MISSED_UNITS_SECONDS,
      work: () => this.#findMissedUnits(),
      onError: options.onError,
    })
  }

  start(): this {
    this.#leave = this.#options.signals.listen((notice) => {
      if (notice !== undefined && notice.kind !== 'deployment') return
      if (notice !== undefined) this.#named.add(notice.id)
      this.#loop.poke()
    })
    this.#loop.start()
    this.#search.start()
    return this
  }

  /** Resolves when a round that began after this call has ended. */
  settle(): Promise<void> {
    return this.#loop.settle()
  }

  async stop(): Promise<void> {
    this.#leave()
    await Promise.all([this.#loop.stop(), this.#search.stop()])
  }

  async #round(signal: AbortSignal): Promise<void> {
    const early = this.#startedAt + this.#pauseMilliseconds - performance.now()
    if (early > 0) await delay(early, undefined, { signal })
    this.#startedAt = performance.now()
    const named = [...this.#named].slice(0, DEPLOYMENTS_PER_ROUND_MAX)
    for (const id of named) this.#named.delete(id)
    if (this.#named.size > 0) this.#loop.poke()
    const due = await listDueDeployments(this.#options.db, DEPLOYMENTS_PER_ROUND_MAX)
    const ids = [...new Set([...named, ...due])]
    await forEachConcurrent(ids, CONCURRENCY, async (id) => {
      if (!signal.aborted) await this.#advanceSafely(id)
    })
    const taken = performance.now() - this.#startedAt
    this.#pauseMilliseconds = Math.min(
      Math.max(ROUND_MILLISECONDS_MIN, taken * ROUND_SHARE),
      ROUND_MILLISECONDS_MAX,
    )
  }

  async #findMissedUnits(): Promise<void> {
    if (await findMissedUnits(this.#options.db)) this.#options.onCommitted()
  }

  async #advanceSafely(id: string): Promise<void> {
    const { db, onError } = this.#options
    try {
      await this.#advance(id)
    } catch (error) {
      onError(error)
      await postponeDeployment(db, id, RETRY_SECONDS)
    }
  }

  async #advance(id: string): Promise<void> {
    const { db, onCommitted, rollBack } = this.#options
    for (let steps = 0; steps < STEPS_MAX; steps += 1) {
      const done = await db.transaction((tx) => advanceDeployment(tx, id))
      if (done === undefined) return
      if (done.hasEvents) onCommitted()
      for (const older of done.superseded) this.#named.add(older)
      if (done.superseded.length > 0) this.#loop.poke()
      if (done.isRollbackDue) await rollBack(id)
      if (!done.isUnfinished) return
    }
    this.#named.add(id)
    this.#loop.poke()
  }
}
