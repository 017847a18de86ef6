import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database, Transaction } from '../db/database.ts'
import { notifyOpenDeployments } from '../db/deployments/deployments.ts'
import {
  findSettings,
  listSettings,
  putSettings,
  type RepositorySettings,
  type View,
  type Visibility,
} from '../db/registry/repositories.ts'
import {
  hideRepository,
  listTagsInRanges,
  lockRepository,
} from '../db/registry/repository-deletions.ts'
import { badRequest, denied, RegistryError } from '../oci/errors.ts'
import type { Glob } from '../oci/glob.ts'
import { matchesAnyGlob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'
import { recordDeletion } from './events/record.ts'

export type { RepositorySettings, View, Visibility }

export type SettingsChange = Partial<
  Pick<RepositorySettings, 'visibility' | 'immutableTags' | 'provenance'>
>

const PATTERNS_MAX = 100

/** Tags that are compared with patterns of immutable tags; with more, the repository counts as one that has such tags. */
const COMPARED_TAGS_MAX = 10_000

/** The settings of repositories (visibility, immutable tags and provenance), and their deletion. */
export class Repositories {
  readonly #db: Database
  readonly #visibility: Visibility
  readonly #onCommitted: () => void

  /** `onCommitted` is called after every deletion, so that its event is delivered at once. */
  constructor(db: Database, visibility: Visibility, onCommitted: () => void = () => {}) {
    this.#db = db
    this.#visibility = visibility
    this.#onCommitted = onCommitted
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

  /**
   * Deletes the repository with its tags, manifests, settings and histories. The commit frees its name and ends all access
   * to its content; garbage collection then removes the content in steps. Pushes in progress are committed before, or
   * refused. Throws NAME_UNKNOWN, and DENIED while the repository has an immutable tag.
   */
  async remove(repository: Repository, actor: Actor): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const locked = await lockRepository(tx, repository)
      if (locked === undefined) throw new RegistryError('NAME_UNKNOWN', { name: repository })
      await assertNoImmutableTag(tx, locked.id, locked.immutableTags)
      await hideRepository(tx, locked.id)
      await recordChange(tx, actor, { action: 'delete-repository', repository })
      await notifyOpenDeployments(tx, locked.id, undefined)
      await recordDeletion(tx, { repositoryId: locked.id, repository, actor: actor.name })
    })
    this.#onCommitted()
  }
}

async function assertNoImmutableTag(
  tx: Transaction,
  repositoryId: number,
  patterns: readonly Glob[],
): Promise<void> {
  if (patterns.length === 0) return
  const tags = await listTagsInRanges(tx, repositoryId, patterns, COMPARED_TAGS_MAX)
  const immutable = tags.find((tag) => matchesAnyGlob(patterns, tag))
  if (immutable === undefined && tags.length < COMPARED_TAGS_MAX) return
  const tag = immutable ?? tags[0]
  throw denied(
    `tag ${tag} is immutable: make the tags of the repository mutable before you delete it`,
    { tag },
  )
}
