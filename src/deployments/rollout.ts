/** A number of targets, or a share of all of them in percent, as `10%`. */
export type Amount = number | `${number}%`

/** How a tag's new image reaches the units that follow it. */
export type Rollout = {
  /** The name of the rollout; null: no rollout matches the tag, and everything is updated at once. */
  readonly name: string | null
  /** How many units are updated first, alone. 0: none. */
  readonly canary: Amount
  /** How many units may be in flight at the same time after the canaries. Null: all. */
  readonly batch: Amount | null
  /** The order of the hosts: by their name, or by the value of a label first. */
  readonly order: string
  /** How long a unit must stay healthy until it counts as settled, in seconds. */
  readonly settleSeconds: number
  /** How long a unit may take from its grant to its first healthy report, in seconds. */
  readonly deadlineSeconds: number
  /** After what the deployment pauses until somebody resumes it. */
  readonly pauseAfter: 'canary' | 'batch' | null
  /** How many failures the deployment survives. */
  readonly maxFailures: Amount
  readonly onFailure: 'halt' | 'rollback'
  /** Labels that a host must have; others are not part of the deployment and keep what they run. */
  readonly require: Readonly<Record<string, string>>
}

/** The rollout of a tag that no rollout names: all units at once, as a tag does by itself. */
export const DEFAULT_ROLLOUT: Rollout = {
  name: null,
  canary: 0,
  batch: null,
  order: 'name',
  settleSeconds: 30,
  deadlineSeconds: 300,
  pauseAfter: null,
  maxFailures: 0,
  onFailure: 'halt',
  require: {},
}
