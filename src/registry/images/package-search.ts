import { filterInSlices } from '../../async/filter-in-slices.ts'
import type { Queryable } from '../../db/database.ts'
import type { HitFilter } from '../../db/images/hit-filters.ts'
import {
  ID_MAX,
  listImagesWithPackage,
  listVersions,
  type PackageCursor,
  type PackageHit,
  VERSIONS_PAGE,
} from '../../db/images/packages.ts'
import { resolveVisible, type VisibleNames } from '../../db/name-patterns.ts'
import { badRequest } from '../../oci/errors.ts'
import type { Glob } from '../../oci/glob.ts'
import { UNKNOWN_VERSION } from '../../unikernel/package-lists.ts'
import {
  MalformedConstraintError,
  parseVersionConstraint,
  satisfies,
  type VersionConstraint,
} from '../../unikernel/versions/constraint.ts'
import { type Ecosystem, versionOrder } from '../../unikernel/versions/orders.ts'

export type { Ecosystem, HitFilter, PackageCursor, PackageHit }

/** A package, and a constraint for its versions. */
export type PackageQuery = HitFilter & {
  readonly ecosystem: Ecosystem
  readonly name: string
  /** Such as `>= 1.2 & < 2`. Undefined matches all versions. Unknown versions always match: nothing excludes them. */
  readonly version: string | undefined
}

/** Versions that one search compares. */
const VERSIONS_MAX = 100_000

const FIRST: PackageCursor = { blobId: ID_MAX, manifestId: ID_MAX, packageId: ID_MAX }

/** One page of a search. */
export type PackagePage = {
  readonly hits: readonly PackageHit[]
  /** The cursor of the next page. */
  readonly next: PackageCursor | undefined
  /** True when the package has more versions than a search compares, so that images may be missing. */
  readonly truncated: boolean
}

/** Finds the images that contain a package. */
export class PackageSearch {
  /**
   * Lists images that contain a package, in public repositories and those that match one of `visible`.
   * `db` is the connection of the question. Throws REQUEST_INVALID for a malformed constraint.
   */
  async listImages(
    db: Queryable,
    query: PackageQuery,
    visible: readonly Glob[],
    before: PackageCursor | undefined,
    limit: number,
  ): Promise<PackagePage> {
    const isWanted = versionFilter(query)
    if (limit === 0) return { hits: [], next: undefined, truncated: false }
    const names = await resolveVisible(db, visible)
    const roles = query.ecosystem === 'opam' ? ['opam-switch', 'opam-lock'] : ['system-packages']
    const { ids, named, truncated } = await wantedVersions(db, query, roles, names, isWanted)
    if (ids.length === 0) return { hits: [], next: undefined, truncated }
    const from = before ?? FIRST
    const page = await listImagesWithPackage(db, ids, named, roles, names, query, from, limit)
    return { ...page, truncated }
  }
}

/** Returns the ids of the visible versions: those that match, and all of the name. */
async function wantedVersions(
  db: Queryable,
  { ecosystem, name }: PackageQuery,
  roles: readonly string[],
  visible: VisibleNames,
  isWanted: (version: string) => boolean,
): Promise<{ ids: number[]; named: number[]; truncated: boolean }> {
  const ids: number[] = []
  const named: number[] = []
  let after = 0
  for (let seen = 0; seen < VERSIONS_MAX; seen += VERSIONS_PAGE) {
    const page = await listVersions(db, ecosystem, name, roles, visible, after)
    const wanted = await filterInSlices(page, ({ version }) => isWanted(version))
    for (const { id } of wanted) ids.push(id)
    for (const { id } of page) named.push(id)
    if (page.length < VERSIONS_PAGE) return { ids, named, truncated: false }
    after = page.at(-1)?.id ?? after
  }
  return { ids, named, truncated: true }
}

function versionFilter({ ecosystem, version }: PackageQuery): (version: string) => boolean {
  if (version === undefined) return () => true
  const constraint = parseConstraint(version)
  const order = versionOrder(ecosystem)
  return (one) => one === UNKNOWN_VERSION || satisfies(one, constraint, order)
}

function parseConstraint(version: string): VersionConstraint {
  try {
    return parseVersionConstraint(version)
  } catch (cause) {
    if (!(cause instanceof MalformedConstraintError)) throw cause
    throw badRequest(`version: ${cause.message}; write for example >= 1.2 & < 2`, { cause })
  }
}
