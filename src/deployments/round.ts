import type { Transaction } from '../db/database.ts'
import {
  type LockedDeployment,
  listOpenBefore,
  lockDeployment,
  postponeDeployment,
  updateDeployment,
} from '../db/deployments/deployments.ts'
import { grantUnits, lockUnits, withdrawGrants } from '../db/deployments/grants.ts'
import { notifyStep } from '../db/deployments/notifications.ts'
import {
  changeTargets,
  listTargetsToPlan,
  settleTargets,
  type TargetToPlan,
} from '../db/deployments/targets.ts'
import { recordDeployment } from './events.ts'
import { type Plan, type PlanInput, plan } from './plan.ts'
import { makeTargets } from './target-making.ts'

/** The result of a step of a deployment. */
export type Advanced = {
  readonly hasEvents: boolean
  /** True when the tag has to be moved back. */
  readonly isRollbackDue: boolean
  /** Older deployments of the tag, which end because of this one. */
  readonly superseded: readonly string[]
  /** True when the next step is due at once. */
  readonly isUnfinished: boolean
}

/** Older deployments of a tag that end together. */
const SUPERSEDED_MAX = 100
/** How often the kernels of a container image are looked for. */
const PENDING_SECONDS = 2
const NOTHING: Advanced = {
  ...{ hasEvents: false, isRollbackDue: false, superseded: [], isUnfinished: false },
}

/**
 * Takes the next step of a deployment, in a transaction that locks its row, the units to grant and then the targets.
 * Returns undefined when another process has it. A step changes only targets that are as it read them: the next
 * one takes into account what a host reported meanwhile. The targets are made in a step of their own: Postgres would check
 * the foreign keys of each again when the transaction that inserted it grants it.
 */
export async function advanceDeployment(
  tx: Transaction,
  id: string,
): Promise<Advanced | undefined> {
  const deployment = await lockDeployment(tx, id)
  if (deployment === undefined) return undefined
  const end = endOf(deployment)
  const isOpen = deployment.state === 'rolling' || deployment.state === 'paused'
  if (isOpen && end === undefined && !deployment.areTargetsMade) {
    if (!(await makeTargets(tx, deployment))) {
      await postponeDeployment(tx, id, PENDING_SECONDS)
      return NOTHING
    }
    await recordDeployment(tx, deployment, { state: deployment.state, reason: null })
    await notifyStep(tx, id, 'planned')
    const superseded = await listOpenBefore(tx, deployment, SUPERSEDED_MAX)
    return { ...NOTHING, hasEvents: true, superseded, isUnfinished: true }
  }
  return { ...(await takeStep(tx, deployment, end)), superseded: [] }
}

/** Takes one step of a locked deployment. `end`: the last one. */
export async function takeStep(
  tx: Transaction,
  deployment: LockedDeployment,
  end: PlanInput['end'],
): Promise<Omit<Advanced, 'superseded'>> {
  const targets = await listTargetsToPlan(tx, deployment)
  const planned = plan(inputOf(deployment, targets, end))
  const { hasTargetChanges, isUnfinished } = await apply(tx, deployment, targets, planned)
  const isChanged = planned.state !== deployment.state
  await store(tx, deployment, planned, hasTargetChanges)
  if (isChanged) await recordDeployment(tx, deployment, planned)
  const hasEvents = isChanged || hasTargetChanges
  const hasGrants = planned.grants.length + planned.withdrawals.length > 0
  if (hasEvents) await notifyStep(tx, deployment.id, hasGrants ? 'granted' : 'planned')
  const isRollbackDue = planned.rollbackDue || deployment.isRollbackDue
  return { hasEvents, isRollbackDue, isUnfinished }
}

/** A host looks at its kernel each second, and sends a report again after another two, that it does not run any more. */
const REPORT_SECONDS = 5

/** Returns for how long after the watch time a report of a failure within it may arrive. */
function reportSecondsOf({ settleSeconds }: LockedDeployment['rollout']): number {
  return Math.min(settleSeconds, REPORT_SECONDS)
}

/** Returns why a deployment has to end, in any state of its targets; undefined: it has not. */
function endOf(deployment: LockedDeployment): PlanInput['end'] {
  const { tag, tagDigest, digest, number, newestNumber, isRepositoryDeleted } = deployment
  if (newestNumber > number) {
    return { state: 'superseded', reason: `deployment ${newestNumber} of the tag is newer` }
  }
  if (isRepositoryDeleted) return { state: 'cancelled', reason: 'the repository was deleted' }
  if (tagDigest === null) return { state: 'cancelled', reason: `tag ${tag} was deleted` }
  if (tagDigest === digest) return undefined
  return { state: 'superseded', reason: `tag ${tag} was moved to ${tagDigest}` }
}

function inputOf(
  { state, resumes, inReview, rollout, now }: LockedDeployment,
  targets: readonly TargetToPlan[],
  end: PlanInput['end'],
): PlanInput {
  return {
    deployment: { state, resumes, inReview },
    ...{ end, now: now.getTime() },
    rollout: { ...rollout, settleSeconds: rollout.settleSeconds + reportSecondsOf(rollout) },
    targets: targets.map((one) => ({
      ...{ place: one.place, state: one.state, presence: one.presence },
      name: `${one.unit} on ${one.host}`,
      grantedAt: one.grantedAt?.getTime() ?? null,
      deadlineAt: one.deadlineAt?.getTime() ?? null,
      healthyAt: one.healthyAt?.getTime() ?? null,
      settledAt: one.settledAt?.getTime() ?? null,
    })),
  }
}

/**
 * Applies a plan to units and targets. `isUnfinished`: the next step is due at once, because a unit ran the digest already,
 * or could not be granted it any more.
 */
async function apply(
  tx: Transaction,
  deployment: LockedDeployment,
  targets: readonly TargetToPlan[],
  { changes, grants, settled, withdrawals }: Plan,
): Promise<{ readonly hasTargetChanges: boolean; readonly isUnfinished: boolean }> {
  const at = (index: number): TargetToPlan => {
    const target = targets[index]
    if (target === undefined) throw new Error(`the plan names target ${index} of ${targets.length}`)
    return target
  }
  const [granted, withdrawn, stayed] = [grants.map(at), withdrawals.map(at), settled.map(at)]
  const { id } = deployment
  if (granted.length + withdrawn.length > 0) await lockUnits(tx, [...granted, ...withdrawn])
  if (changes.length > 0) {
    const changed = changes.map(({ index, state, deadlineAt, reason }) => {
      const { hostId, unit, state: from } = at(index)
      const deadline = deadlineAt === null ? null : new Date(deadlineAt)
      return { hostId, unit, from, state, deadlineAt: deadline, reason }
    })
    await changeTargets(tx, id, changed)
  }
  if (stayed.length > 0) await settleTargets(tx, id, stayed)
  const taken = granted.length > 0 ? await grantUnits(tx, deployment, granted) : []
  if (withdrawn.length > 0) await withdrawGrants(tx, deployment, withdrawn)
  return {
    hasTargetChanges: changes.length + granted.length + stayed.length + withdrawn.length > 0,
    isUnfinished: taken.length < granted.length || taken.some(({ state }) => state === 'healthy'),
  }
}

/** Stores what the plan says of the deployment itself. A row that need not change is not written. */
async function store(
  tx: Transaction,
  deployment: LockedDeployment,
  planned: Plan,
  hasTargetChanges: boolean,
): Promise<void> {
  const { id, state, inReview, resumes, wakeAt, now } = deployment
  const isRollbackDue = planned.rollbackDue || deployment.isRollbackDue
  const due = planned.wakeAt ?? (isRollbackDue ? now.getTime() : null)
  const isSoonEnough = wakeAt !== null && due !== null && wakeAt > now && Number(wakeAt) <= due
  const isSame = planned.state === state && planned.inReview === inReview && !hasTargetChanges
  if (isSame && (isSoonEnough || (wakeAt === null && due === null))) return
  await updateDeployment(tx, id, {
    ...{ state: planned.state, reason: planned.reason, inReview: planned.inReview },
    ...{ resumes, isRollbackDue, wakeAt: due === null ? null : new Date(due) },
  })
}
