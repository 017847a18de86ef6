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
/** A round of a large deployment takes longer, and leaves twice as much to the hosts that it granted, and to their reports. */
const PAUSE_FACTOR = 2
/** The next push waits no longer for a step of another deployment. */
const PAUSE_MILLISECONDS_MAX = 200
/** The events of a longer step are sent after the answers to its hosts. */
const LONG_STEP_MILLISECONDS = 100
const EVENTS_LATER_MILLISECONDS = 500
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
  #nextAt = 0
  readonly #later = new Set<NodeJS.Timeout>()

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
    for (const timer of this.#later) clearTimeout(timer)
    await Promise.all([this.#loop.stop(), this.#search.stop()])
  }

  async #round(signal: AbortSignal): Promise<void> {
    const early = this.#nextAt - performance.now()
    if (early > 0) await delay(early, undefined, { signal })
    const startedAt = performance.now()
    const named = [...this.#named].slice(0, DEPLOYMENTS_PER_ROUND_MAX)
    for (const id of named) this.#named.delete(id)
    if (this.#named.size > 0) this.#loop.poke()
    const due = await listDueDeployments(this.#options.db, DEPLOYMENTS_PER_ROUND_MAX)
    const ids = [...new Set([...named, ...due])]
    await forEachConcurrent(ids, CONCURRENCY, async (id) => {
      if (!signal.aborted) await this.#advanceSafely(id)
    })
    const endedAt = performance.now()
    const pause = Math.min(PAUSE_FACTOR * (endedAt - startedAt), PAUSE_MILLISECONDS_MAX)
    this.#nextAt = Math.max(startedAt + ROUND_MILLISECONDS_MIN, endedAt + pause)
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

  #announce(stepMilliseconds: number): void {
    const { onCommitted } = this.#options
    if (stepMilliseconds < LONG_STEP_MILLISECONDS) {
      onCommitted()
      return
    }
    const timer = setTimeout(() => {
      this.#later.delete(timer)
      onCommitted()
    }, EVENTS_LATER_MILLISECONDS)
    this.#later.add(timer)
  }

  async #advance(id: string): Promise<void> {
    const { db, rollBack } = this.#options
    for (let steps = 0; steps < STEPS_MAX; steps += 1) {
      const startedAt = performance.now()
      const done = await db.transaction((tx) => advanceDeployment(tx, id))
      if (done === undefined) return
      if (done.hasEvents) this.#announce(performance.now() - startedAt)
      for (const older of done.superseded) this.#named.add(older)
      if (done.superseded.length > 0) this.#loop.poke()
      if (done.isRollbackDue) await rollBack(id)
      if (!done.isUnfinished) return
    }
    this.#named.add(id)
    this.#loop.poke()
  }
}
