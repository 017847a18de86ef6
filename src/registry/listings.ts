import type { Database } from '../db/database.ts'
import { listReferrers, type ReferrerRow } from '../db/registry/manifests.ts'
import { findRepository, listRepositories, type View } from '../db/registry/repositories.ts'
import { listTags } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'

export type Page<Item> = {
  readonly items: readonly Item[]
  /** True when there are more behind the last item. */
  readonly more: boolean
}

export type PageRequest = {
  /** Only items behind this one; empty for the first page. */
  readonly last: string
  readonly limit: number
}

/** A descriptor as the referrers API lists it, and where it stands in the list. */
export type Referrer = {
  readonly id: number
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

// An index as large as a manifest may be; the rest of a descriptor is small beside annotations.
const REFERRER_ANNOTATION_BYTES_MAX = 4 * 1024 * 1024

/** What is there, page by page: each page costs the same, wherever it begins. */
export class Listings {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** end-8a, end-8b. Throws NAME_UNKNOWN. */
  async tags(view: View, { last, limit }: PageRequest): Promise<Page<string>> {
    const names = await listTags(this.#db, view, last, limit + 1)
    if (names === undefined) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    return limit === 0 ? { items: [], more: false } : page(names, limit)
  }

  /** What is public, and what is named by `visible`: expressions of Postgres. */
  async repositories(
    visible: readonly string[],
    { last, limit }: PageRequest,
  ): Promise<Page<string>> {
    if (limit === 0) return { items: [], more: false }
    return page(await listRepositories(this.#db, visible, last, limit + 1), limit)
  }

  /**
   * end-12a, end-12b, in the order in which they were pushed. A repository that the administrator's
   * view lacks has no referrers; a stranger is not told (NAME_UNKNOWN).
   */
  async referrers(
    view: View,
    subject: Digest,
    artifactType: string | undefined,
    after: number,
    limit: number,
  ): Promise<Page<Referrer>> {
    const repositoryId = await findRepository(this.#db, view)
    if (repositoryId === undefined) {
      if (view.publicOnly) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
      return { items: [], more: false }
    }
    const rows = await listReferrers(this.#db, {
      repositoryId,
      subject,
      artifactType,
      after,
      limit: limit + 1,
      annotationBytesMax: REFERRER_ANNOTATION_BYTES_MAX,
    })
    const items = rows.slice(0, limit)
    return { items: items.map(referrerOf), more: (rows[0]?.found ?? 0) > items.length }
  }
}

function referrerOf(row: ReferrerRow): Referrer {
  return {
    id: row.id,
    mediaType: row.mediaType,
    digest: row.digest,
    size: row.size,
    ...(row.artifactType === null ? {} : { artifactType: row.artifactType }),
    ...(row.annotations === null ? {} : { annotations: JSON.parse(row.annotations) }),
  }
}

/** `rows` has one row more than the page when there are more. */
function page<Item>(rows: readonly Item[], limit: number): Page<Item> {
  return { items: rows.slice(0, limit), more: rows.length > limit }
}
