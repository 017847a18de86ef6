import type { Amount, Rollout } from './rollout.ts'
import { type DeploymentState, FAILURES, IN_FLIGHT, type TargetState } from './states.ts'

/** A target as it is stored. Times are milliseconds since 1970. */
export type PlannedTarget = {
  /** Its place in the order of the rollout. */
  readonly place: number
  readonly state: TargetState
  readonly grantedAt: number | null
  readonly deadlineAt: number | null
  readonly healthyAt: number | null
  readonly settledAt: number | null
  /** `gone`: the host was revoked, or has no such unit that follows the tag any more. */
  readonly presence: 'online' | 'offline' | 'gone'
  /** Names it in the reason of the deployment, such as `www on web-1`. */
  readonly name: string
}

/** A deployment with all of its targets, at one time. */
export type PlanInput = {
  readonly deployment: {
    readonly state: DeploymentState
    /** The reviews of `pauseAfter` that were passed. */
    readonly resumes: number
    readonly inReview: boolean
  }
  /** Given when the deployment has to end, in any state of its targets. */
  readonly end?: { readonly state: 'superseded' | 'cancelled'; readonly reason: string } | undefined
  readonly rollout: Rollout
  readonly targets: readonly PlannedTarget[]
  /** Milliseconds since 1970. */
  readonly now: number
}

/** A target that gets another state or deadline, by its index in the input. `reason` is a word. */
export type PlannedChange = {
  readonly index: number
  readonly state: TargetState
  readonly deadlineAt: number | null
  readonly reason: string | null
}

/** The next step of a deployment. All lists have indexes in the input. */
export type Plan = {
  readonly changes: readonly PlannedChange[]
  /**
   * Targets whose units get the digest now, in the order of the rollout. One whose host is offline keeps its state: the
   * unit runs the digest when the host returns.
   */
  readonly grants: readonly number[]
  /** Targets that have stayed healthy for long enough. */
  readonly settled: readonly number[]
  /** Targets whose units should not run the digest after all: it failed elsewhere while their hosts were offline. */
  readonly withdrawals: readonly number[]
  readonly state: DeploymentState
  /** A sentence; null: the state says everything, or has not changed. */
  readonly reason: string | null
  readonly inReview: boolean
  /** True when the tag has to be moved back. */
  readonly rollbackDue: boolean
  /** When to plan again, at the latest. Null: the deployment ended, and nothing of it is in flight. */
  readonly wakeAt: number | null
}

/** A notification that was lost delays a deployment by at most this long. */
export const WAKE_MILLISECONDS_MAX = 5_000
/** The same while a deployment is paused, or waits for hosts that are offline. */
const IDLE_WAKE_MILLISECONDS_MAX = 30_000

/** True when the rollout updates all units at the same time: nothing is left that a failure could protect. */
export function isAtOnce({ canary, batch }: Rollout): boolean {
  return batch === null && parseInt(String(canary), 10) === 0
}

/**
 * Plans the next step of a deployment. Nothing but its input decides, so the same input has the same plan in every process.
 *
 * A unit occupies a place of its batch from its grant until it is settled. Hosts that are offline neither block nor count:
 * the next in the order takes their place. A failed canary ends the deployment, also when failures are allowed.
 */
export function plan(input: PlanInput): Plan {
  const step = new Step(input)
  const { deployment, end: asked, now } = input
  if (deployment.state !== 'rolling' && deployment.state !== 'paused') {
    return step.continueEnded(deployment.state)
  }
  if (asked !== undefined) return step.end(asked.state, asked.reason)
  const failure = step.failure()
  if (failure !== undefined) return step.fail(failure)
  if (deployment.state === 'rolling') {
    const review = step.grantNext()
    if (review !== undefined) {
      return step.result({ state: 'paused', reason: review, inReview: true, isOpen: true })
    }
  }
  const end = step.conclude()
  if (end !== undefined) return end
  const { state, inReview } = deployment
  const isIdle = state === 'paused' || !step.isBusy()
  const latest = now + (isIdle ? IDLE_WAKE_MILLISECONDS_MAX : WAKE_MILLISECONDS_MAX)
  return step.result({ state, inReview, isOpen: true, latest })
}

type Outcome = {
  readonly state: DeploymentState
  readonly reason?: string
  readonly inReview?: boolean
  readonly isOpen: boolean
  readonly rollbackDue?: boolean
  /** When an open deployment is planned again at the latest. */
  readonly latest?: number
}

type Working = PlannedTarget & {
  readonly index: number
  /** The state after this step. */
  next: TargetState
  nextDeadline: number | null
  isSettled: boolean
  wasGranted: boolean
  reason: string | null
}

/** One step of a deployment, while it is planned. */
class Step {
  readonly #input: PlanInput
  /** In the order of the rollout. */
  readonly #targets: readonly Working[]
  readonly #grants: number[] = []
  readonly #withdrawals: number[] = []
  readonly #settled: number[] = []
  readonly #canaries: number
  readonly #failuresMax: number

  constructor(input: PlanInput) {
    this.#input = input
    const { rollout, targets } = input
    this.#targets = targets
      .map((target, index) => ({
        ...target,
        index,
        next: target.state,
        nextDeadline: target.deadlineAt,
        isSettled: target.settledAt !== null,
        wasGranted: target.grantedAt !== null,
        reason: null,
      }))
      .sort((a, b) => a.place - b.place || a.index - b.index)
    this.#canaries = Math.ceil(amountOf(rollout.canary, targets.length))
    this.#failuresMax = Math.floor(amountOf(rollout.maxFailures, targets.length))
    for (const target of this.#targets) this.#age(target)
  }

  /** Applies what time and the presence of the host do to a target. */
  #age(target: Working): void {
    const { rollout, now } = this.#input
    const isOpen = ['waiting', 'offline'].includes(target.next) || isInFlight(target)
    if (isOpen && target.presence === 'gone') {
      set(target, 'skipped', 'gone')
    } else if (isInFlight(target) && target.presence === 'offline') {
      set(target, 'offline', null)
    } else if (isInFlight(target)) {
      // A deadline that is further away was set while the clock of the database was ahead.
      target.nextDeadline = Math.min(target.nextDeadline ?? Infinity, this.#newDeadline())
      if (target.nextDeadline <= now) set(target, 'overdue', 'deadline')
    } else if (target.next === 'waiting' && target.presence === 'offline') {
      set(target, 'offline', null)
    } else if (target.next === 'offline' && target.presence === 'online') {
      // Its unit still has the grant, and begins at once.
      set(target, target.wasGranted ? 'granted' : 'waiting', null)
      if (target.wasGranted) target.nextDeadline = this.#newDeadline()
    } else if (target.next === 'healthy' && !target.isSettled) {
      const since = target.healthyAt ?? now
      if (since <= now && since + rollout.settleSeconds * 1000 > now) return
      target.isSettled = true
      this.#settled.push(target.index)
    }
  }

  #newDeadline(): number {
    return this.#input.now + this.#input.rollout.deadlineSeconds * 1000
  }

  #count(test: (target: Working) => boolean): number {
    return this.#targets.reduce((count, target) => count + Number(test(target)), 0)
  }

  /** True while a unit is in flight or observed, or could be granted. */
  isBusy(): boolean {
    return this.#targets.some((target) => isOccupying(target) || target.next === 'waiting')
  }

  /** The number of targets that took a grant and can conclude, or have. */
  #consumed(): number {
    return this.#count((one) => one.wasGranted && !['offline', 'skipped'].includes(one.next))
  }

  /** True until as many units have settled as there are canaries, also when more than these are in flight again. */
  #isWithCanaries(): boolean {
    return this.#count(({ isSettled }) => isSettled) < this.#canaries
  }

  /** Why the deployment has to end now; undefined: it goes on. */
  failure(): string | undefined {
    const failed = this.#targets.filter((one) => FAILURES.includes(one.next))
    const broken = failed.filter(({ next }) => next !== 'refused')
    const [canary] = broken
    if (canary !== undefined && this.#isWithCanaries()) return `the canary ${describe(canary)}`
    // Without an order nothing is protected by a refusal that was known before the first grant.
    const counted = isAtOnce(this.#input.rollout) ? broken : failed
    return counted.length > this.#failuresMax ? this.#describeFailures(failed) : undefined
  }

  #describeFailures(failed: readonly Working[]): string {
    const [first] = failed
    if (failed.length === 1 && first !== undefined) return describe(first)
    const shown = failed.slice(0, SHOWN_MAX).map(describe).join(', ')
    const more = failed.length > SHOWN_MAX ? `, and ${failed.length - SHOWN_MAX} more` : ''
    return `${failed.length} of ${this.#targets.length} units: ${shown}${more}`
  }

  /** Ends the deployment. Units that have their grant continue, also those whose hosts are offline. */
  end(state: DeploymentState, reason: string | undefined): Plan {
    for (const target of this.#targets) {
      const isLeft = target.next === 'waiting' || (target.next === 'offline' && !target.wasGranted)
      if (isLeft) set(target, 'skipped', state)
    }
    return this.result({ state, ...(reason !== undefined && { reason }), isOpen: false })
  }

  /** A unit that began to follow the tag while the deployment ended is part of its end. */
  continueEnded(state: DeploymentState): Plan {
    if (state === 'failed' || state === 'halted') this.#skipLeft(state)
    if (state !== 'succeeded') return this.end(state, undefined)
    for (const target of this.#targets) if (target.next === 'waiting') this.#grant(target)
    return this.result({ state, isOpen: false })
  }

  /** Ends the deployment because of failures. Units whose hosts are offline do not get the digest when they return. */
  fail(reason: string): Plan {
    const { rollout } = this.#input
    const rollbackDue = rollout.onFailure === 'rollback'
    const isHalt = !rollbackDue && this.#targets.some(({ next }) => next === 'waiting')
    this.#skipLeft(isHalt ? 'halted' : 'failed')
    return this.result({ state: isHalt ? 'halted' : 'failed', reason, rollbackDue, isOpen: false })
  }

  #skipLeft(reason: string): void {
    const unsent = new Set(this.#grants.splice(0))
    for (const target of this.#targets) {
      if (target.next !== 'waiting' && target.next !== 'offline') continue
      if (target.wasGranted && !unsent.has(target.index)) this.#withdrawals.push(target.index)
      set(target, 'skipped', reason)
    }
  }

  /** Grants as many as the rollout allows now. Returns why it has to pause instead, if it has. */
  grantNext(): string | undefined {
    const { rollout, deployment } = this.#input
    if (isAtOnce(rollout)) {
      for (const one of this.#targets) {
        if (one.next === 'waiting' || (one.next === 'offline' && !one.wasGranted)) this.#grant(one)
      }
      return undefined
    }
    const candidates = this.#targets.filter(({ next }) => next === 'waiting')
    const occupied = this.#count(isOccupying)
    const batch = batchOf(rollout, this.#targets.length)
    const withCanaries = this.#isWithCanaries()
    const settled = this.#count(({ isSettled }) => isSettled)
    const slots = withCanaries ? this.#canaries - settled - occupied : batch - occupied
    const reviewed = reviewedOf(rollout, this.#canaries, batch, deployment.resumes)
    const open = reviewed - this.#consumed()
    const isPassed = !withCanaries && open <= 0
    if (isPassed && occupied === 0 && candidates.length > 0) {
      const passed = this.#canaries > 0 && deployment.resumes === 0 ? 'the canary' : 'a batch'
      return `${passed} is done: resume to continue`
    }
    for (const one of candidates.slice(0, Math.max(0, Math.min(slots, open)))) this.#grant(one)
    return undefined
  }

  #grant(target: Working): void {
    target.wasGranted = true
    this.#grants.push(target.index)
    if (target.presence !== 'online') return
    set(target, 'granted', null)
    target.nextDeadline = this.#newDeadline()
  }

  /** Ends the deployment when nothing is left to do for hosts that are online. */
  conclude(): Plan | undefined {
    if (this.isBusy()) return undefined
    const offline = this.#targets.filter(({ next }) => next === 'offline')
    const healthy = this.#count(({ next }) => next === 'healthy')
    // Nothing is known of the image yet.
    if (offline.length > 0 && healthy === 0) return undefined
    const failed = this.#targets.filter((one) => FAILURES.includes(one.next))
    if (failed.length > this.#failuresMax) return this.fail(this.#describeFailures(failed))
    for (const one of offline) if (!one.wasGranted) this.#grant(one)
    return this.result({
      state: 'succeeded',
      reason: describeEnd(offline.length, healthy),
      isOpen: false,
    })
  }

  result(outcome: Outcome): Plan {
    const { now } = this.#input
    const { state, reason = null, inReview = false, isOpen, rollbackDue = false } = outcome
    const latest = outcome.latest ?? now + IDLE_WAKE_MILLISECONDS_MAX
    const wakes = this.#targets.flatMap((one) => this.#wakeOf(one))
    if (isOpen) wakes.push(latest)
    return {
      changes: this.#changes(),
      grants: this.#grants,
      settled: this.#settled,
      withdrawals: this.#withdrawals,
      ...{ state, reason, inReview, rollbackDue },
      wakeAt: wakes.length === 0 ? null : wakes.reduce((a, b) => Math.min(a, b)),
    }
  }

  #wakeOf(target: Working): number[] {
    if (isInFlight(target)) return [target.nextDeadline ?? this.#newDeadline()]
    if (target.next !== 'healthy' || target.isSettled) return []
    return [(target.healthyAt ?? this.#input.now) + this.#input.rollout.settleSeconds * 1000]
  }

  #changes(): PlannedChange[] {
    const granted = new Set(this.#grants)
    return this.#targets.flatMap((one) => {
      const isSame = one.next === one.state && one.nextDeadline === one.deadlineAt
      if (isSame || (granted.has(one.index) && one.presence === 'online')) return []
      const { index, next: state, nextDeadline: deadlineAt, reason } = one
      return [{ index, state, deadlineAt, reason }]
    })
  }
}

/** Failures that the reason of a deployment names. */
const SHOWN_MAX = 3

function set(target: Working, state: TargetState, reason: string | null): void {
  target.next = state
  target.reason = reason
  target.nextDeadline = null
}

function isInFlight({ next }: Working): boolean {
  return IN_FLIGHT.includes(next)
}

/** True from the grant of a unit until it is settled. */
function isOccupying(target: Working): boolean {
  return isInFlight(target) || (target.next === 'healthy' && !target.isSettled)
}

function describe({ name, next }: Working): string {
  return `${name} ${FAILED_WORDS[next] ?? 'failed'}`
}

const FAILED_WORDS: Partial<Record<TargetState, string>> = {
  'rolled-back': 'was rolled back',
  refused: 'cannot run the image',
  overdue: 'did not conclude in time',
}

function describeEnd(offline: number, healthy: number): string {
  const units = (count: number) => `${count} ${count === 1 ? 'unit' : 'units'}`
  const late = offline === 0 ? '' : `, ${units(offline)} offline until the return of the host`
  return healthy + offline === 0 ? 'no unit takes part' : `${units(healthy)} healthy${late}`
}

/** Returns a number of targets, of a share the exact one. */
function amountOf(amount: Amount, total: number): number {
  return typeof amount === 'number' ? amount : (total * parseInt(amount, 10)) / 100
}

/** Returns how many units may be in flight at the same time: at least one, and of a share no more than the share. */
function batchOf({ batch }: Rollout, total: number): number {
  return batch === null ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(amountOf(batch, total)))
}

/** Returns how many grants the reviews so far allow. */
function reviewedOf({ pauseAfter }: Rollout, canaries: number, batch: number, resumes: number) {
  const all = Number.POSITIVE_INFINITY
  if (pauseAfter === null) return all
  if (pauseAfter === 'canary') return canaries === 0 || resumes > 0 ? all : canaries
  const first = canaries === 0 ? batch : canaries
  return resumes === 0 ? first : first + resumes * batch
}
