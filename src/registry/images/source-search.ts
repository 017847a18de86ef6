import { filterInSlices } from '../../async/filter-in-slices.ts'
import type { Queryable } from '../../db/database.ts'
import type { HitFilter } from '../../db/images/hit-filters.ts'
import { ID_MAX } from '../../db/images/packages.ts'
import {
  listImagesWithSource,
  listSources,
  SOURCES_PAGE,
  type SourceCursor,
  type SourceHit,
} from '../../db/images/sources.ts'
import { resolveVisible, type VisibleNames } from '../../db/name-patterns.ts'
import type { Glob } from '../../oci/glob.ts'
import type { OpamChecksum } from '../../unikernel/opam/package.ts'
import { hasReference, type WantedRepository } from '../../unikernel/opam/wanted-source.ts'

export type { SourceCursor, SourceHit }

/** A source, by its repository or by a checksum of its archive. */
export type WantedSource =
  | { readonly from: WantedRepository; readonly checksum?: undefined }
  | { readonly from?: undefined; readonly checksum: OpamChecksum }

/** Sources that one search compares. */
const SOURCES_COMPARED_MAX = 100_000
/** The lists of an opam switch and of a lock file. */
const ROLES = ['opam-switch', 'opam-lock']
// Ordinals are integers of 32 bits.
const FIRST: SourceCursor = { blobId: ID_MAX, ordinal: 2 ** 31 - 1, manifestId: ID_MAX }

/** One page of a search. */
export type SourcePage = {
  readonly hits: readonly SourceHit[]
  /** The cursor of the next page. */
  readonly next: SourceCursor | undefined
  /** True when there are more sources than a search compares, so that images may be missing. */
  readonly truncated: boolean
}

/** Finds the images that were built from a source. */
export class SourceSearch {
  /**
   * Lists images that were built from a source, in public repositories and those that match one of `visible`. `db` is the
   * connection of the question.
   */
  async listImages(
    db: Queryable,
    wanted: WantedSource,
    filter: HitFilter,
    visible: readonly Glob[],
    before: SourceCursor | undefined,
    limit: number,
  ): Promise<SourcePage> {
    if (limit === 0) return { hits: [], next: undefined, truncated: false }
    const names = await resolveVisible(db, visible)
    const { ids, truncated } = await wantedSources(db, wanted, names)
    if (ids.length === 0) return { hits: [], next: undefined, truncated }
    const from = before ?? FIRST
    const page = await listImagesWithSource(db, ids, ROLES, names, filter, from, limit)
    return { ...page, truncated }
  }
}

/** Returns the ids of the visible sources that match. */
async function wantedSources(
  db: Queryable,
  { from, checksum }: WantedSource,
  visible: VisibleNames,
): Promise<{ ids: number[]; truncated: boolean }> {
  const [by, value] =
    from === undefined
      ? (['checksum', checksum] as const)
      : (['repository', from.repository] as const)
  const ids: number[] = []
  let after = 0
  for (let seen = 0; seen < SOURCES_COMPARED_MAX; seen += SOURCES_PAGE) {
    const page = await listSources(db, by, value, ROLES, visible, after)
    const matching = await filterInSlices(
      page,
      ({ url }) => from?.reference === undefined || hasReference(url, from.reference),
    )
    for (const { id } of matching) ids.push(id)
    if (page.length < SOURCES_PAGE) return { ids, truncated: false }
    after = page.at(-1)?.id ?? after
  }
  return { ids, truncated: true }
}
