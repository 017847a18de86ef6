import type { Actor } from '../db/auth/audit.ts'
import type { Transaction } from '../db/database.ts'
import { type CreatedDeployment, insertDeployments } from '../db/deployments/deployments.ts'
import type { TagMove } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import { chooseRollout, loadRollouts } from './rollouts.ts'
import type { DeploymentKind } from './states.ts'

export type { CreatedDeployment }

/** What moved a tag. */
export type DeploymentCause = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly digest: Digest
  readonly kind: DeploymentKind
  readonly actor: Pick<Actor, 'name' | 'origin'>
}

/**
 * Makes a deployment for each moved tag that units follow, in the transaction of the move, which has the tags' rows
 * locked. Without such a tag it sends no statement. The controller finds the units after the commit.
 */
export async function createDeployments(
  tx: Transaction,
  cause: DeploymentCause,
  moves: readonly Pick<TagMove, 'tag' | 'previous' | 'isFollowed'>[],
): Promise<CreatedDeployment[]> {
  const followed = moves.filter(({ isFollowed }) => isFollowed)
  if (followed.length === 0) return []
  const rollouts = await loadRollouts(tx)
  return insertDeployments(
    tx,
    cause,
    followed.map(({ tag, previous }) => ({
      tag,
      previous,
      rollout: chooseRollout(rollouts, cause.repository, tag, cause.kind),
    })),
  )
}
