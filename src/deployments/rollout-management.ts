import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database, Queryable } from '../db/database.ts'
import {
  countRollouts,
  findRollout,
  listRollouts,
  lockRollout,
  putRollout,
  removeRollout,
  type StoredRollout,
} from '../db/deployments/rollouts.ts'
import { conflict, denied, notFound } from '../oci/errors.ts'
import { ROLLOUTS_MAX } from './rollouts.ts'

export type { StoredRollout }

/** The rights of a caller on rollouts: it administers all repositories and tags that the rollout names. */
export type MayManage = (rollout: Pick<StoredRollout, 'repositories' | 'tags'>) => boolean

/** Lists and changes the rollouts of a registry. Deployments keep the rollout with which they were made. */
export class Rollouts {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** Lists the rollouts after the name `last` that the caller may manage, in the order of names. */
  async list(
    db: Queryable,
    last: string,
    limit: number,
    mayManage: MayManage,
  ): Promise<StoredRollout[]> {
    const found = await listRollouts(db, last, ROLLOUTS_MAX)
    return found.filter(mayManage).slice(0, limit)
  }

  /** Finds a rollout. Throws NOT_FOUND, also for one that the caller may not manage. */
  async find(name: string, mayManage: MayManage): Promise<StoredRollout> {
    const found = await findRollout(this.#db, name)
    if (found === undefined || !mayManage(found)) throw missing(name)
    return found
  }

  /**
   * Makes or replaces a rollout. Throws DENIED when the caller may not manage the new or the present one, and CONFLICT when
   * the registry has too many.
   */
  async put(
    rollout: Omit<StoredRollout, 'updatedAt' | 'createdBy'>,
    actor: Actor,
    mayManage: MayManage,
  ): Promise<StoredRollout & { readonly isNew: boolean }> {
    if (!mayManage(rollout)) {
      throw denied(
        'this credential does not administer all repositories and tags that the rollout names',
        { field: 'repositories' },
      )
    }
    return this.#db.transaction(async (tx) => {
      await recordChange(tx, actor, { action: 'put-rollout', detail: rollout.name })
      const present = await lockRollout(tx, rollout.name)
      if (present !== undefined && !mayManage(present)) {
        throw denied(
          `the rollout ${rollout.name} names repositories that this credential may not administer`,
        )
      }
      if (present === undefined && (await countRollouts(tx)) >= ROLLOUTS_MAX) {
        throw conflict(`a registry has at most ${ROLLOUTS_MAX} rollouts: remove one first`)
      }
      const stored = await putRollout(tx, { ...rollout, createdBy: actor.name })
      // Another request made it meanwhile, perhaps for repositories of others.
      if (present === undefined && !stored.isNew) {
        throw conflict(`the rollout ${rollout.name} was just made by another request`)
      }
      return stored
    })
  }

  /** Removes a rollout. Throws NOT_FOUND, also for one that the caller may not manage. */
  async remove(name: string, actor: Actor, mayManage: MayManage): Promise<void> {
    await this.#db.transaction(async (tx) => {
      await recordChange(tx, actor, { action: 'remove-rollout', detail: name })
      const present = await lockRollout(tx, name)
      if (present === undefined || !mayManage(present)) throw missing(name)
      await removeRollout(tx, name)
    })
  }
}

function missing(name: string) {
  return notFound(
    `there is no rollout ${name}, or this credential does not administer its repositories`,
  )
}
