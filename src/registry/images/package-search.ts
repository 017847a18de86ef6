import { filterInSlices } from '../../async/filter-in-slices.ts'
import type { Queryable } from '../../db/database.ts'
import type { HitFilter } from '../../db/images/hit-filters.ts'
import {
  findLastList,
  ID_MAX,
  type ImageWithPackage,
  listImagesWithPackage,
  listVersions,
  type PackageCursor,
  type PackageSelection,
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

export type { Ecosystem, HitFilter, PackageCursor }

/** An image that has one version of a package. */
export type PackageHit = ImageWithPackage & {
  /** Empty when it is unknown. */
  readonly version: string
}

/** A package, and a constraint for its versions. */
export type PackageQuery = HitFilter & {
  readonly ecosystem: Ecosystem
  readonly name: string
  /** Such as `>= 1.2 & < 2`. Undefined matches all versions. Unknown versions always match: nothing excludes them. */
  readonly version: string | undefined
}

/** Versions that one search compares. */
const VERSIONS_MAX = 100_000

/** Layers that one page reads, however few of them are of visible images. */
const LISTS_MAX = 100_000
/** Times more layers are read when those before were not enough. */
const LISTS_GROWTH = 4

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
    const isWanted = versionMatcher(query.ecosystem, query.version)
    if (limit === 0) return { hits: [], next: undefined, truncated: false }
    const names = await resolveVisible(db, visible)
    const roles = query.ecosystem === 'opam' ? ['opam-switch', 'opam-lock'] : ['system-packages']
    const { ids, versions, truncated } = await wantedVersions(db, query, roles, names, isWanted)
    if (ids.length === 0) return { hits: [], next: undefined, truncated }
    const selection = { ids, named: [...versions.keys()], roles, visible: names, filter: query }
    const { hits, next } = await readPage(db, selection, before ?? FIRST, limit)
    const found = hits.map((hit) => ({ ...hit, version: versions.get(hit.packageId) ?? '' }))
    return { hits: found, next, truncated }
  }
}

/**
 * Reads a page. Most layers are those of one visible image: a quarter more than the limit is read at first, and more
 * when others have them. The page has fewer hits than the limit when LISTS_MAX of them had no more.
 */
async function readPage(
  db: Queryable,
  selection: PackageSelection,
  before: PackageCursor,
  limit: number,
): Promise<{ hits: ImageWithPackage[]; next: PackageCursor | undefined }> {
  const hits: ImageWithPackage[] = []
  let from = before
  for (let count = limit + 1 + (limit >> 2), read = 0; ; read += count, count *= LISTS_GROWTH) {
    const page = await listImagesWithPackage(db, selection, from, count, limit - hits.length)
    hits.push(...page.hits)
    if (page.next !== undefined) return { hits, next: page.next }
    const isEnd = page.lists !== undefined && page.lists < count
    const last = isEnd ? undefined : await findLastList(db, selection, from, count)
    if (last === undefined) return { hits, next: undefined }
    from = { ...last, manifestId: 0 }
    if (hits.length === limit || read + count >= LISTS_MAX) return { hits, next: from }
  }
}

/** Returns the ids of the visible versions that match, and all visible versions by their id. */
async function wantedVersions(
  db: Queryable,
  { ecosystem, name }: PackageQuery,
  roles: readonly string[],
  visible: VisibleNames,
  isWanted: (version: string) => boolean,
): Promise<{ ids: number[]; versions: Map<number, string>; truncated: boolean }> {
  const ids: number[] = []
  const versions = new Map<number, string>()
  let after = 0
  for (let seen = 0; seen < VERSIONS_MAX; seen += VERSIONS_PAGE) {
    const page = await listVersions(db, ecosystem, name, roles, visible, after)
    const wanted = await filterInSlices(page, ({ version }) => isWanted(version))
    for (const { id } of wanted) ids.push(id)
    for (const { id, version } of page) versions.set(id, version)
    if (page.length < VERSIONS_PAGE) return { ids, versions, truncated: false }
    after = page.at(-1)?.id ?? after
  }
  return { ids, versions, truncated: true }
}

/**
 * Returns the test whether a version satisfies a constraint, as `PackageQuery` describes it. Throws REQUEST_INVALID for a
 * malformed one.
 */
export function versionMatcher(
  ecosystem: Ecosystem,
  version: string | undefined,
): (version: string) => boolean {
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
