import type { DeploymentState } from '../deployments/states.ts'
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

/** The state of a deployment. */
export function DeploymentStateWord({ state }: { state: DeploymentState }) {
  return <State mood={MOODS[state]}>{state}</State>
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
