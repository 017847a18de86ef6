import type { Queryable } from '../db/database.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import { listReferrers } from '../db/registry/referrers.ts'
import { findRepository, listRepositories, type View } from '../db/registry/repositories.ts'
import { listTags } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Glob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'

export type Page<Item> = {
  readonly items: readonly Item[]
  /** True when more items follow the last one. */
  readonly more: boolean
}

export type PageRequest = {
  /** The page begins after this item; empty for the first page. */
  readonly last: string
  readonly limit: number
}

/** A descriptor of the referrers API, and the id that orders the list. */
export type Referrer = {
  readonly id: number
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly artifactType: string | null
  /** JSON, as stored: an answer copies it, because to parse it and to write it again takes longer. */
  readonly annotations: string | null
}

// Keeps an index below the size limit of a manifest; the rest of a descriptor is small beside annotations.
const REFERRER_ANNOTATION_BYTES_MAX = 4 * 1024 * 1024

/**
 * Lists repositories, tags and referrers in pages. The cost of a page does not depend on its position. `db` is the
 * connection of the question.
 */
export class Listings {
  /** end-8a, end-8b: lists tags. Throws NAME_UNKNOWN. */
  async tags(db: Queryable, view: View, { last, limit }: PageRequest): Promise<Page<string>> {
    const names = await listTags(db, view, last, limit + 1)
    if (names === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    return limit === 0 ? { items: [], more: false } : page(names, limit)
  }

  /** Lists public repositories, and those that match one of `visible`, in the order of names. */
  async repositories(
    db: Queryable,
    visible: readonly Glob[],
    { last, limit }: PageRequest,
  ): Promise<Page<Repository>> {
    if (limit === 0) return { items: [], more: false }
    const names = await resolveVisible(db, visible)
    return page(await listRepositories(db, names, last, limit + 1), limit)
  }

  /**
   * end-12a, end-12b: lists referrers in the order of pushes. A repository that does not exist has no
   * referrers. A reader of public repositories gets NAME_UNKNOWN instead, as for a private repository.
   */
  async referrers(
    db: Queryable,
    view: View,
    subject: Digest,
    artifactType: string | undefined,
    after: number,
    limit: number,
  ): Promise<Page<Referrer>> {
    const repositoryId = await findRepository(db, view)
    if (repositoryId === undefined) {
      if (view.publicOnly) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
      return { items: [], more: false }
    }
    const rows = await listReferrers(db, {
      repositoryId,
      subject,
      artifactType,
      after,
      limit: limit + 1,
      annotationBytesMax: REFERRER_ANNOTATION_BYTES_MAX,
    })
    const items = rows.slice(0, limit)
    return { items, more: (rows[0]?.found ?? 0) > items.length }
  }
}

/** Makes a page of rows that were read with one more than the limit. */
function page<Item>(rows: readonly Item[], limit: number): Page<Item> {
  return { items: rows.slice(0, limit), more: rows.length > limit }
}
