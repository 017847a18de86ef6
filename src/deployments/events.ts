import type { Actor } from '../db/auth/audit.ts'
import type { Transaction } from '../db/database.ts'
import type { CreatedDeployment, LockedDeployment } from '../db/deployments/deployments.ts'
import { countTargets } from '../db/deployments/targets.ts'
import { appendEvents } from '../db/events/outbox.ts'
import type { DeploymentEvent } from '../events/event.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { Rollout } from './rollout.ts'
import type { DeploymentKind, DeploymentState } from './states.ts'

/** The move of a tag that makes deployments. */
export type DeploymentCause = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly digest: Digest
  readonly kind: DeploymentKind
  readonly actor: Pick<Actor, 'name' | 'origin'>
}

/** Records that a deployment has its targets, was paused or resumed, or ended, in the transaction of the change. */
export async function recordDeployment(
  tx: Transaction,
  deployment: LockedDeployment,
  change: { readonly state: DeploymentState; readonly reason: string | null },
): Promise<void> {
  const { id, repositoryId, repository, tag, digest, previous, number, kind, actor } = deployment
  const isOpen = change.state === 'rolling' || change.state === 'paused'
  const event: DeploymentEvent = {
    type: isOpen ? 'deployment.updated' : 'deployment.finished',
    ...{ repository, tag, digest, previousDigest: previous, actor, deployment: id, number, kind },
    ...{ state: change.state, reason: change.reason, counts: await countTargets(tx, id) },
  }
  await appendEvents(tx, [{ event, repositoryId }])
}

/** Records that deployments were made, in the transaction that moves their tags. */
export async function recordCreated(
  tx: Transaction,
  cause: DeploymentCause,
  made: readonly (CreatedDeployment & {
    readonly previous: DeploymentEvent['previousDigest']
    readonly rollout: Rollout
  })[],
): Promise<void> {
  const { repositoryId, repository, digest, kind, actor } = cause
  const events = made.map(({ id, tag, number, previous, rollout }) => {
    const event: DeploymentEvent = {
      type: 'deployment.created',
      ...{ repository, tag, digest, previousDigest: previous, actor: actor.name },
      ...{ deployment: id, number, kind, state: 'rolling', rollout: rollout.name },
    }
    return { event, repositoryId }
  })
  await appendEvents(tx, events)
}
