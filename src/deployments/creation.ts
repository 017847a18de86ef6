import type { Transaction } from '../db/database.ts'
import { type CreatedDeployment, insertDeployments } from '../db/deployments/deployments.ts'
import type { TagMove } from '../db/registry/tags.ts'
import { type DeploymentCause, recordCreated } from './events.ts'
import { chooseRollout, loadRollouts } from './rollouts.ts'

export type { CreatedDeployment, DeploymentCause }

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
  const wanted = followed.map(({ tag, previous }) => ({
    tag,
    previous,
    rollout: chooseRollout(rollouts, cause.repository, tag, cause.kind),
  }))
  const made = await insertDeployments(tx, cause, wanted)
  await recordCreated(
    tx,
    cause,
    made.flatMap((one) =>
      wanted.filter(({ tag }) => tag === one.tag).map((of) => ({ ...of, ...one })),
    ),
  )
  return made
}
