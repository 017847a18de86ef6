import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database } from '../db/database.ts'
import {
  findSettings,
  listSettings,
  putSettings,
  type RepositorySettings,
  type View,
  type Visibility,
} from '../db/registry/repositories.ts'
import { badRequest, RegistryError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'

export type { RepositorySettings, View, Visibility }

export type SettingsChange = Partial<
  Pick<RepositorySettings, 'visibility' | 'immutableTags' | 'provenance'>
>

const PATTERNS_MAX = 100

/** The settings of repositories: visibility, immutable tags and provenance. */
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

  /** Lists the settings of public and private repositories after `last`, in the order of names. */
  list(last: string, limit: number): Promise<RepositorySettings[]> {
    return listSettings(this.#db, last, limit)
  }

  /**
   * Changes the given settings, even before the first push. They apply from this commit on, also to
   * pushes in progress. Throws REQUEST_INVALID.
   */
  async change(
    repository: Repository,
    change: SettingsChange,
    actor: Actor,
  ): Promise<RepositorySettings> {
    if ((change.immutableTags?.length ?? 0) > PATTERNS_MAX) {
      throw badRequest(`a repository has at most ${PATTERNS_MAX} patterns of immutable tags`)
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
