import type { Queryable } from '../db/database.ts'
import { ANY_IMAGE, type ImagePage, listImages } from '../db/images/image-lists.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import { type Attention, findAttention } from '../db/registry/attention.ts'
import {
  type FollowerRow,
  findRepositoryOverview,
  listFollowers,
  listTagRows,
  type RepositoryOverview,
  type TagRow,
} from '../db/registry/overviews.ts'
import type { View } from '../db/registry/repositories.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Glob } from '../oci/glob.ts'
import type { Tag } from '../oci/reference.ts'
import type { Page, PageRequest } from './listings.ts'

export type { Attention, FollowerRow, RepositoryOverview, TagRow }

/** Repositories and tags as their pages show them. `db` is the connection of the question. */
export class Overviews {
  /** Describes a repository with its newest images, in two round trips. Throws NAME_UNKNOWN. */
  async repository(
    db: Queryable,
    view: View,
    limit: number,
  ): Promise<RepositoryOverview & ImagePage> {
    const found = await findRepositoryOverview(db, view)
    if (found === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    const page = await listImages(db, found.id, ANY_IMAGE, Number.MAX_SAFE_INTEGER, limit)
    return { ...found, ...page }
  }

  /** Lists tags with the unikernels that they point to, in one round trip. Throws NAME_UNKNOWN. */
  async tags(db: Queryable, view: View, { last, limit }: PageRequest): Promise<Page<TagRow>> {
    const rows = await listTagRows(db, view, last, limit + 1)
    if (rows === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    return { items: rows.slice(0, limit), more: rows.length > limit }
  }

  /** Counts the units that follow a tag. */
  followers(db: Queryable, view: View, tag: Tag): Promise<FollowerRow[]> {
    return listFollowers(db, view, tag)
  }

  /**
   * Finds what failed lately and is not mended, in public repositories and in private ones that match `visible`. With
   * `seesDeployments`, also deployments; with `seesHosts`, also hosts that wait or are offline, of which the caller shows those
   * that the reader may manage.
   */
  async attention(
    db: Queryable,
    visible: readonly Glob[],
    { seesDeployments, seesHosts }: { seesDeployments: boolean; seesHosts: boolean },
  ): Promise<Attention> {
    return findAttention(db, await resolveVisible(db, visible), seesDeployments, seesHosts)
  }
}
