import fc from 'fast-check'
import { type Plan, type PlannedTarget, plan } from '../../src/deployments/plan.ts'
import { DEFAULT_ROLLOUT, type Rollout } from '../../src/deployments/rollout.ts'
import type { DeploymentState, TargetState } from '../../src/deployments/states.ts'

/** One thing that happens between two plans. `unit`: an index, modulo the number of units. */
export type Happening =
  | { readonly kind: 'time'; readonly seconds: number }
  | { readonly kind: 'report'; readonly unit: number; readonly state: TargetState }
  | {
      readonly kind: 'presence'
      readonly unit: number
      readonly presence: PlannedTarget['presence']
    }
  | { readonly kind: 'newcomer' }
  | { readonly kind: 'pause' | 'resume' }

export type ModelDeployment = {
  state: DeploymentState
  reason: string | null
  resumes: number
  inReview: boolean
  rollbackDue: boolean
}

type ModelTarget = { -readonly [Key in keyof PlannedTarget]: PlannedTarget[Key] }

const amount = (max: number) =>
  fc.oneof(
    fc.integer({ min: 0, max }),
    fc.integer({ min: 1, max: 100 }).map((share) => `${share}%` as const),
  )

export const rollouts: fc.Arbitrary<Rollout> = fc.record({
  name: fc.constant('careful'),
  canary: fc.oneof(fc.constant(0), amount(4)),
  batch: fc.oneof(
    fc.constant(null),
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 100 }).map((share) => `${share}%` as const),
  ),
  order: fc.constant('name'),
  settleSeconds: fc.integer({ min: 0, max: 60 }),
  deadlineSeconds: fc.integer({ min: 1, max: 300 }),
  pauseAfter: fc.constantFrom(null, 'canary' as const, 'batch' as const),
  maxFailures: fc.oneof(fc.constant(0), amount(3)),
  onFailure: fc.constantFrom('halt' as const, 'rollback' as const),
  require: fc.constant({}),
})

export const happenings: fc.Arbitrary<Happening[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('time' as const), seconds: fc.integer({ min: 0, max: 400 }) }),
    fc.record({
      kind: fc.constant('report' as const),
      unit: fc.nat(),
      state: fc.constantFrom<TargetState[]>(
        ...(['fetching', 'starting', 'checking', 'healthy', 'healthy', 'healthy'] as const),
        ...(['failed', 'rolled-back'] as const),
      ),
    }),
    fc.record({
      kind: fc.constant('presence' as const),
      unit: fc.nat(),
      presence: fc.constantFrom('online' as const, 'offline' as const, 'gone' as const),
    }),
    fc.constant({ kind: 'newcomer' } as const),
    fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const) }),
  ),
  { maxLength: 60 },
)

const REPORTABLE: readonly TargetState[] = [
  ...(['granted', 'fetching', 'starting', 'checking', 'healthy', 'overdue', 'offline'] as const),
]

/** Units, hosts and the rows of a deployment in memory: it does what the database and the hosts do. */
export class Model {
  readonly rollout: Rollout
  readonly deployment: ModelDeployment = {
    ...{ state: 'rolling', reason: null, resumes: 0, inReview: false, rollbackDue: false },
  }
  readonly targets: ModelTarget[] = []
  now = 1_000_000

  constructor(rollout: Rollout, count: number, refused: readonly number[] = []) {
    this.rollout = rollout
    for (let at = 0; at < count; at += 1) this.#add(refused.includes(at) ? 'refused' : 'waiting')
  }

  #add(state: TargetState): void {
    const place = this.targets.length
    this.targets.push({
      ...{ place, state, grantedAt: null, deadlineAt: null, healthyAt: null, settledAt: null },
      ...{ presence: 'online', name: `www on h${place}` },
    })
  }

  happens(one: Happening): void {
    const { deployment } = this
    if (one.kind === 'time') this.now += one.seconds * 1000
    if (one.kind === 'newcomer' && deployment.state === 'rolling') this.#add('waiting')
    if (one.kind === 'pause' && deployment.state === 'rolling') deployment.state = 'paused'
    if (one.kind === 'resume' && deployment.state === 'paused') {
      deployment.state = 'rolling'
      if (deployment.inReview) deployment.resumes += 1
      deployment.inReview = false
    }
    const target = 'unit' in one ? this.targets[one.unit % this.targets.length] : undefined
    if (target !== undefined && one.kind === 'presence' && target.presence !== 'gone') {
      target.presence = one.presence
    }
    if (target !== undefined && one.kind === 'report') this.#report(target, one.state)
  }

  #report(target: ModelTarget, state: TargetState): void {
    if (target.presence === 'gone' || target.grantedAt === null) return
    if (!REPORTABLE.includes(target.state) || target.settledAt !== null) return
    const isProgress = !['healthy', 'failed', 'rolled-back'].includes(state)
    if (isProgress && (target.state === 'healthy' || target.state === 'overdue')) return
    target.presence = 'online'
    target.state = state
    if (state === 'healthy') target.healthyAt ??= this.now
  }

  plan(): Plan {
    const { deployment, rollout, targets, now } = this
    return plan({ deployment, rollout, targets, now })
  }

  apply(planned: Plan): void {
    for (const { index, state, deadlineAt } of planned.changes) {
      Object.assign(this.at(index), { state, deadlineAt })
    }
    for (const index of planned.grants) {
      const target = this.at(index)
      target.grantedAt = this.now
      if (target.presence !== 'online') continue
      target.state = 'granted'
      target.deadlineAt = this.now + this.rollout.deadlineSeconds * 1000
    }
    for (const index of planned.settled) this.at(index).settledAt = this.now
    const { state, reason, inReview, rollbackDue } = planned
    Object.assign(this.deployment, { state, inReview, rollbackDue }, reason !== null && { reason })
  }

  at(index: number): ModelTarget {
    const target = this.targets[index]
    if (target === undefined) throw new Error(`the plan names target ${index}`)
    return target
  }

  /** Plans and applies, as a round of the controller does. */
  round(): Plan {
    const planned = this.plan()
    this.apply(planned)
    return planned
  }

  count(...states: TargetState[]): number {
    return this.targets.filter(({ state }) => states.includes(state)).length
  }

  get inFlight(): number {
    return this.count('granted', 'fetching', 'starting', 'checking')
  }

  get occupied(): number {
    const watched = this.targets.filter((one) => one.state === 'healthy' && one.settledAt === null)
    return this.inFlight + watched.length
  }

  get settled(): number {
    return this.targets.filter(({ settledAt }) => settledAt !== null).length
  }

  get isOpen(): boolean {
    return this.deployment.state === 'rolling' || this.deployment.state === 'paused'
  }

  share(amount: Rollout['canary'], round: (value: number) => number): number {
    if (typeof amount === 'number') return amount
    return round((this.targets.length * parseInt(amount, 10)) / 100)
  }
}

export function rolloutOf(change: Partial<Rollout>): Rollout {
  return { ...DEFAULT_ROLLOUT, ...change }
}
