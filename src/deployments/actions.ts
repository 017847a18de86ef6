import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database, Transaction } from '../db/database.ts'
import {
  findDeployment,
  findOpenNumber,
  insertDeployments,
  type LockedDeployment,
  lockDeployment,
  lockTag,
  type RetriedDeployment,
  updateDeployment,
} from '../db/deployments/deployments.ts'
import { notifyDeployment } from '../db/deployments/notifications.ts'
import { countTargets } from '../db/deployments/targets.ts'
import { conflict, notFound } from '../oci/errors.ts'
import { recordCreated, recordDeployment } from './events.ts'
import { chooseRollout, loadRollouts } from './rollouts.ts'
import { takeStep } from './round.ts'
import { makeTargets } from './target-making.ts'

/** Changes deployments at the request of people. */
export class DeploymentActions {
  readonly #db: Database
  readonly #onCommitted: () => void

  /** `onCommitted` is called after every change. */
  constructor(db: Database, onCommitted: () => void = () => {}) {
    this.#db = db
    this.#onCommitted = onCommitted
  }

  /**
   * Grants nothing more until somebody resumes it. Units in flight continue. Does nothing when it is paused. Throws
   * NOT_FOUND, and CONFLICT when it has ended.
   */
  pause(id: string, actor: Actor): Promise<void> {
    return this.#change(id, actor, 'pause', async (tx, deployment) => {
      if (deployment.state === 'paused') return
      await setState(tx, deployment, 'paused', `${actor.name} paused it`)
    })
  }

  /** Continues a paused deployment. Does nothing when it is not paused. Throws NOT_FOUND, and CONFLICT when it has ended. */
  resume(id: string, actor: Actor): Promise<void> {
    return this.#change(id, actor, 'resume', async (tx, deployment) => {
      if (deployment.state === 'rolling') return
      await setState(tx, deployment, 'rolling', null)
    })
  }

  /** Ends a deployment. Units in flight continue. Throws NOT_FOUND, and CONFLICT when it has ended. */
  cancel(id: string, actor: Actor): Promise<void> {
    return this.#change(id, actor, 'cancel', async (tx, deployment) => {
      const reason = `${actor.name} cancelled it`
      await takeStep(tx, deployment, { state: 'cancelled', reason })
    })
  }

  /**
   * Makes a deployment of the same image to those units that failed; with `host` to all units of this host that are not
   * healthy. Returns its id. Throws NOT_FOUND, and CONFLICT while a deployment of the tag is open, when the tag names
   * another image, and when there is no such unit.
   */
  async retry(id: string, host: string | undefined, actor: Actor): Promise<string> {
    const made = await this.#db.transaction(async (tx) => {
      const deployment = await findDeployment(tx, id)
      if (deployment === undefined) throw missing(id)
      return retry(tx, deployment, host, actor)
    })
    this.#onCommitted()
    return made
  }

  async #change(
    id: string,
    actor: Actor,
    action: string,
    work: (tx: Transaction, deployment: LockedDeployment) => Promise<void>,
  ): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const deployment = await lockDeployment(tx, id, true)
      if (deployment === undefined || deployment.isRepositoryDeleted) throw missing(id)
      const { number, tag, state } = deployment
      if (state !== 'rolling' && state !== 'paused') {
        throw conflict(`deployment ${number} of tag ${tag} has ended: it is ${state}`, { state })
      }
      await record(tx, actor, action, deployment)
      await work(tx, deployment)
    })
    this.#onCommitted()
  }
}

function missing(id: string) {
  return notFound(`there is no deployment ${id}`)
}

function record(
  tx: Transaction,
  actor: Actor,
  action: string,
  { repository, tag, digest, number }: RetriedDeployment,
): Promise<void> {
  return recordChange(tx, actor, {
    ...{ action: `${action}-deployment`, repository, tags: [tag], digest },
    detail: `deployment ${number}`,
  })
}

async function setState(
  tx: Transaction,
  deployment: LockedDeployment,
  state: 'rolling' | 'paused',
  reason: string | null,
): Promise<void> {
  const { id, resumes, inReview, isRollbackDue, now } = deployment
  await updateDeployment(tx, id, {
    ...{ state, reason, inReview: false, isRollbackDue, wakeAt: now },
    resumes: inReview ? resumes + 1 : resumes,
  })
  await recordDeployment(tx, deployment, { state, reason })
  await notifyDeployment(tx, id)
}

async function retry(
  tx: Transaction,
  deployment: RetriedDeployment,
  host: string | undefined,
  actor: Actor,
): Promise<string> {
  const { id, repositoryId, repository, tag, digest, previous, number } = deployment
  // Before any deployment, as every move of a tag does.
  const current = await lockTag(tx, repositoryId, tag)
  await record(tx, actor, 'retry', deployment)
  if (current !== digest) {
    const names = current === undefined ? 'is deleted' : `names ${current} now`
    throw conflict(`tag ${tag} ${names}: deployment ${number} brought ${digest}`, { tag })
  }
  const open = await findOpenNumber(tx, repositoryId, tag)
  if (open !== undefined) {
    throw conflict(`deployment ${open} of tag ${tag} is in progress: wait for it, or cancel it`, {
      tag,
    })
  }
  const cause = { repositoryId, repository, digest, kind: 'retry', actor } as const
  const rollout = chooseRollout(await loadRollouts(tx), repository, tag, 'retry')
  const [made] = await insertDeployments(tx, cause, [{ tag, previous, rollout }])
  const locked = made && (await lockDeployment(tx, made.id, true))
  if (made === undefined || locked === undefined) throw new Error('a new deployment is missing')
  const areMade = await makeTargets(tx, locked, { deployment: id, host })
  if (!areMade || (await countTargets(tx, made.id)).of === 0) {
    const of = host === undefined ? 'failed' : `of host ${host} can be retried`
    throw conflict(`no unit of deployment ${number} ${of}`, { host })
  }
  await recordCreated(tx, cause, [{ ...made, previous, rollout }])
  return made.id
}
