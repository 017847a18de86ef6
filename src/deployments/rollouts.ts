import type { Queryable } from '../db/database.ts'
import { listRollouts, type StoredRollout } from '../db/deployments/rollouts.ts'
import { matchesAnyGlob } from '../oci/glob.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DEFAULT_ROLLOUT, type Rollout } from './rollout.ts'
import type { DeploymentKind } from './states.ts'

/** Rollouts of a registry: all are compared with each tag that units follow, when it moves. */
export const ROLLOUTS_MAX = 1000

/** Reads every rollout, in the order of names. */
export function loadRollouts(db: Queryable): Promise<StoredRollout[]> {
  return listRollouts(db, '', ROLLOUTS_MAX)
}

/**
 * Chooses the rollout of a deployment: the first that names repository and tag. A rollback and a retry have no order of
 * their own: each brings units to an image that was decided on before, so all of them get it at once.
 */
export function chooseRollout(
  rollouts: readonly StoredRollout[],
  repository: Repository,
  tag: Tag,
  kind: DeploymentKind,
): Rollout {
  const found = rollouts.find(
    (one) => matchesAnyGlob(one.repositories, repository) && matchesAnyGlob(one.tags, tag),
  )
  const rollout = found === undefined ? DEFAULT_ROLLOUT : { ...found.policy, name: found.name }
  return kind === 'push' ? rollout : atOnce(rollout)
}

/** The rollout for all units at once, which pauses nowhere and never moves the tag back. */
function atOnce(rollout: Rollout): Rollout {
  return { ...rollout, canary: 0, batch: null, pauseAfter: null, onFailure: 'halt' }
}
