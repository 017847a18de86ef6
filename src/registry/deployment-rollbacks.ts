import { recordChange } from '../db/auth/audit.ts'
import type { Database, Transaction } from '../db/database.ts'
import { type DueRollback, endRollback, findDueRollback } from '../db/deployments/rollbacks.ts'
import { lockContents } from '../db/registry/manifests.ts'
import { moveTags } from '../db/registry/tags.ts'
import { createDeployments } from '../deployments/creation.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import { recordRollback } from './events/record.ts'
import { assertTagMutable } from './immutable-tags.ts'

/** Moves the tags of failed deployments back, when their rollouts say so. */
export class DeploymentRollbacks {
  readonly #db: Database
  readonly #onCommitted: () => void

  /** `onCommitted` is called after every move. */
  constructor(db: Database, onCommitted: () => void = () => {}) {
    this.#db = db
    this.#onCommitted = onCommitted
  }

  /**
   * Moves the tag of a failed deployment back to the last digest that was good, if the tag still names the failed one, and
   * makes a deployment of it: followers without an identity go back, too. Otherwise the reason of the deployment says why
   * the tag was not moved. Does nothing when another process has done it.
   */
  async rollBack(id: string): Promise<void> {
    const due = await findDueRollback(this.#db, id)
    if (due === undefined) return
    const { target, digest } = due
    if (target === null || target === digest) {
      await endRollback(this.#db, id, 'it had no other image before')
      return
    }
    try {
      await this.#db.transaction((tx) => moveBack(tx, due, target))
    } catch (error) {
      if (!(error instanceof NotMovedError) && !isDenied(error)) throw error
      await endRollback(this.#db, id, error.message)
      return
    }
    this.#onCommitted()
  }
}

/** The transaction was rolled back: another push moved the tag, or the image is deleted. */
class NotMovedError extends Error {}

function isDenied(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.code === 'DENIED'
}

async function moveBack(tx: Transaction, due: DueRollback, digest: Digest): Promise<void> {
  const { id, repository, tag, number, rollout } = due
  const actor = {
    ...{ name: `rollout ${rollout}`, origin: null, tokenId: null, keyId: null },
    ...{ address: null, requestId: null },
  }
  const { repositoryId, children } = await lockContents(tx, repository, [], [digest])
  if (repositoryId === null || children.length === 0) {
    throw new NotMovedError(`manifest ${digest} is deleted`)
  }
  const [move] = await moveTags(tx, repositoryId, [tag], digest, actor.name, 'rollback')
  if (move?.previous !== due.digest) throw new NotMovedError('it was moved by somebody else')
  assertTagMutable(move)
  const detail = `from ${due.digest}, because deployment ${number} failed`
  await recordChange(tx, actor, { action: 'rollback', repository, tags: [tag], digest, detail })
  const to = { repositoryId, repository, digest }
  await recordRollback(tx, { ...to, actor: actor.name, move })
  await createDeployments(tx, { ...to, kind: 'rollback', actor }, [move])
  await endRollback(tx, id)
}
