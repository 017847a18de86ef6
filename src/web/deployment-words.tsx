import type { DeploymentKind, DeploymentState, TargetState } from '../deployments/states.ts'
import type { TargetCounts } from '../events/event.ts'
import { type Mood, State } from './elements.tsx'

const MOODS: Readonly<Record<DeploymentState, Mood>> = {
  rolling: 'busy',
  paused: 'busy',
  succeeded: 'good',
  failed: 'bad',
  halted: 'bad',
  superseded: 'idle',
  cancelled: 'idle',
}

const TARGET_MOODS: Readonly<Record<TargetState, Mood>> = {
  waiting: 'idle',
  granted: 'busy',
  fetching: 'busy',
  starting: 'busy',
  checking: 'busy',
  healthy: 'good',
  failed: 'bad',
  'rolled-back': 'bad',
  refused: 'bad',
  skipped: 'idle',
  offline: 'idle',
  overdue: 'bad',
}

/** Why a deployment was made, as the end of a sentence. */
export const CAUSES: Readonly<Record<DeploymentKind, string>> = {
  push: 'the tag was set',
  rollback: 'the tag was set back',
  retry: 'an earlier deployment was retried',
}

/** The state of a deployment. */
export function DeploymentStateWord({ state }: { state: DeploymentState }) {
  return <State mood={MOODS[state]}>{state}</State>
}

/** The state of a unit in a deployment. */
export function TargetStateWord({ state }: { state: TargetState }) {
  return <State mood={TARGET_MOODS[state]}>{state}</State>
}

/** `3 of 5 healthy, 1 failed, 1 offline` */
export function deploymentSummary(counts: TargetCounts): string {
  const { healthy, failed, refused, offline, of } = counts
  return [
    `${healthy} of ${of} healthy`,
    ...(failed + refused > 0 ? [`${failed + refused} failed`] : []),
    ...(offline > 0 ? [`${offline} offline`] : []),
  ].join(', ')
}
