/** The state of a unit, as its host reports it. */
export const UNIT_STATES = [
  'absent',
  'fetching',
  'starting',
  'checking',
  'healthy',
  'failed',
  'rolled-back',
  'stopped',
] as const
export type UnitState = (typeof UNIT_STATES)[number]

/** The state of a deployment. The first two are open, all others are its end. */
export const DEPLOYMENT_STATES = [
  'rolling',
  'paused',
  'succeeded',
  'failed',
  'halted',
  'superseded',
  'cancelled',
] as const
export type DeploymentState = (typeof DEPLOYMENT_STATES)[number]

/**
 * The state of one unit in a deployment. `refused`: the image has no kernel that the host can run, which is known before
 * anything is fetched. `overdue`: no conclusion before the deadline, which is a failure. `offline`: the host sends no
 * requests, which is no failure: it runs what it should when it returns. `skipped`: the deployment ended first.
 */
export const TARGET_STATES = [
  'waiting',
  'granted',
  'fetching',
  'starting',
  'checking',
  'healthy',
  'failed',
  'rolled-back',
  'refused',
  'skipped',
  'offline',
  'overdue',
] as const
export type TargetState = (typeof TARGET_STATES)[number]

/** The states of a target that was granted its digest and has not concluded. */
export const IN_FLIGHT: readonly TargetState[] = ['granted', 'fetching', 'starting', 'checking']

/** The states of a target that count as a failure of the deployment. */
export const FAILURES: readonly TargetState[] = ['failed', 'rolled-back', 'refused', 'overdue']

/** Why a deployment was made. */
export type DeploymentKind = 'push' | 'rollback' | 'retry'
