import type { Deployment, DeploymentTarget } from '../../client/deployments.ts'
import { STATUS } from '../errors.ts'

/** States to wait for: the first passed check of each host, or that all of them stayed healthy for a while. */
export const GOALS = ['healthy', 'settled'] as const
export type Goal = (typeof GOALS)[number]

export type Aim = {
  readonly goal: Goal
  /** How many hosts must be healthy; undefined: those that are online. */
  readonly hosts: number | 'all' | undefined
}

/** How waiting for a deployment ended. `incomplete`: it succeeded on fewer hosts than required. */
export type Outcome = Goal | 'failed' | 'incomplete' | 'superseded' | 'timed-out' | 'unfollowed'

const FAILED: ReadonlySet<string> = new Set(['failed', 'halted', 'cancelled'])
const OPEN: ReadonlySet<string> = new Set(['rolling', 'paused'])

/** The outcome of a deployment; undefined while it has to be waited for. */
export function outcomeOf(deployment: Deployment, aim: Aim): Outcome | undefined {
  const { state, counts } = deployment
  if (state === 'superseded') return 'superseded'
  if (FAILED.has(state)) return 'failed'
  const isOpen = OPEN.has(state)
  const { waiting, inFlight, failed, refused } = counts
  // A failure that the rollout survives is only known from its end.
  if (isOpen && waiting + inFlight + failed + refused > 0) return undefined
  // Nothing is known of the image while all hosts are offline.
  if (isOpen && healthyUnits(deployment) === 0) return undefined
  const isReached = aim.goal === 'healthy' || counts.settled >= healthyUnits(deployment)
  if (!isReached) return undefined
  if (hasEnoughHosts(deployment, aim.hosts)) return aim.goal
  // A host that is offline may return until the end.
  return isOpen ? undefined : 'incomplete'
}

/** The exit status of an outcome. `required`: hosts had to follow the tag. */
export function statusOf(outcome: Outcome, required: boolean): number {
  switch (outcome) {
    case 'healthy':
    case 'settled':
      return STATUS.ok
    case 'unfollowed':
      return required ? STATUS.found : STATUS.ok
    case 'timed-out':
      return STATUS.timedOut
    case 'superseded':
      return STATUS.superseded
    default:
      return STATUS.found
  }
}

/** The status of several deployments: that of the worst one. */
export function worstStatus(statuses: readonly number[]): number {
  const order: readonly number[] = [STATUS.found, STATUS.timedOut, STATUS.superseded]
  return order.find((status) => statuses.includes(status)) ?? STATUS.ok
}

/** The number of healthy units, settled or not. */
export function healthyUnits({ counts }: Deployment): number {
  const { waiting, inFlight, failed, refused, offline, skipped, of } = counts
  return of - waiting - inFlight - failed - refused - offline - skipped
}

function hasEnoughHosts(deployment: Deployment, hosts: Aim['hosts']): boolean {
  const { targets, counts } = deployment
  if (hosts === undefined) return true
  if (hosts === 'all') return counts.of > 0 && healthyUnits(deployment) === counts.of
  // Without the right to see hosts only their units are known.
  const healthy = targets === undefined ? healthyUnits(deployment) : healthyHosts(targets)
  return healthy >= hosts
}

/** The number of hosts whose units in the deployment are all healthy. */
function healthyHosts(targets: readonly DeploymentTarget[]): number {
  const hosts = new Map<string, boolean>()
  for (const { host, state } of targets) {
    hosts.set(host, state === 'healthy' && hosts.get(host) !== false)
  }
  return [...hosts.values()].filter((isHealthy) => isHealthy).length
}
