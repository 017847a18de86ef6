import { recordChange } from '../db/auth/audit.ts'
import type { Database } from '../db/database.ts'
import {
  findSettings,
  listSettings,
  putSettings,
  type RepositorySettings,
} from '../db/registry/repositories.ts'
import { badRequest, RegistryError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import type { Actor, Visibility } from './view.ts'

export type { RepositorySettings }

export type SettingsChange = Partial<
  Pick<RepositorySettings, 'visibility' | 'immutableTags' | 'provenance'>
>

const PATTERNS_MAX = 100

/** What a repository is, apart from what it holds. */
export class Repositories {
  readonly #db: Database
  readonly #visibility: Visibility

  constructor(db: Database, visibility: Visibility) {
    this.#db = db
    this.#visibility = visibility
  }

  /** Throws NAME_UNKNOWN. */
  async settings(repository: Repository): Promise<RepositorySettings> {
    const settings = await findSettings(this.#db, repository)
    if (settings === undefined) throw new RegistryError('NAME_UNKNOWN', { name: repository })
    return settings
  }

  /** Those after `last`, in the order of names, whoever may pull from them. */
  list(last: string, limit: number): Promise<RepositorySettings[]> {
    return listSettings(this.#db, last, limit)
  }

  /**
   * Changes what is given, also before the first push. A tag that is to stay where it is stays from
   * this commit on, but for pushes that run meanwhile. Throws REQUEST_INVALID.
   */
  async change(
    repository: Repository,
    change: SettingsChange,
    actor: Actor,
  ): Promise<RepositorySettings> {
    if ((change.immutableTags?.length ?? 0) > PATTERNS_MAX) {
      throw badRequest(`there may be at most ${PATTERNS_MAX} patterns`)
    }
    return this.#db.transaction(async (tx) => {
      const settings = await putSettings(tx, repository, change, this.#visibility)
      await recordChange(tx, actor, {
        action: 'change-repository',
        repository,
        detail: JSON.stringify(change),
      })
      return settings
    })
  }
}
