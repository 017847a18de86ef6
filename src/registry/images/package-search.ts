import { filterInSlices } from '../../async/filter-in-slices.ts'
import type { Database } from '../../db/database.ts'
import {
  ID_MAX,
  listImagesWithPackage,
  listVersions,
  type PackageCursor,
  type PackageHit,
} from '../../db/images/packages.ts'
import { badRequest } from '../../oci/errors.ts'
import {
  MalformedConstraintError,
  parseVersionConstraint,
  satisfies,
  type VersionConstraint,
} from '../../unikernel/versions/constraint.ts'
import { type Ecosystem, versionOrder } from '../../unikernel/versions/orders.ts'
import { UNKNOWN_VERSION } from './package-lists.ts'

export type { Ecosystem, PackageCursor, PackageHit }

/** A package, and a constraint for its versions. */
export type PackageQuery = {
  readonly ecosystem: Ecosystem
  readonly name: string
  /** Such as `>= 1.2 & < 2`. Undefined matches all versions, and unknown ones. */
  readonly version: string | undefined
}

// The least number of lists that a page reads, even if the caller may see few of their images.
const SCAN_MIN = 1000

const FIRST: PackageCursor = { blobId: ID_MAX, manifestId: ID_MAX, packageId: ID_MAX }

/** Finds the images that contain a package. */
export class PackageSearch {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /**
   * Lists images that contain a package, in public repositories and those that match one of `visible`
   * (Postgres regular expressions). `next` is the cursor of the next page, also after a short page.
   * Throws REQUEST_INVALID for a malformed constraint.
   */
  async listImages(
    query: PackageQuery,
    visible: readonly string[],
    before: PackageCursor | undefined,
    limit: number,
  ): Promise<{ hits: readonly PackageHit[]; next: PackageCursor | undefined }> {
    const isWanted = versionFilter(query)
    if (limit === 0) return { hits: [], next: undefined }
    const { ecosystem, name } = query
    const versions = await listVersions(this.#db, ecosystem, name)
    const wanted = await filterInSlices(versions, (one) => isWanted(one.version))
    const ids = wanted.map(({ id }) => id)
    if (ids.length === 0) return { hits: [], next: undefined }
    const role = ecosystem === 'opam' ? 'opam-switch' : 'system-packages'
    const from = before ?? FIRST
    const scan = Math.max(limit + 1, SCAN_MIN)
    const found = await listImagesWithPackage(this.#db, ids, role, visible, from, limit + 1, scan)
    const hits = found.hits.slice(0, limit)
    return { hits, next: found.hits.length > limit ? hits.at(-1) : found.scannedTo }
  }
}

function versionFilter({ ecosystem, version }: PackageQuery): (version: string) => boolean {
  if (version === undefined) return () => true
  const constraint = parseConstraint(version)
  const order = versionOrder(ecosystem)
  return (one) => one !== UNKNOWN_VERSION && satisfies(one, constraint, order)
}

function parseConstraint(version: string): VersionConstraint {
  try {
    return parseVersionConstraint(version)
  } catch (cause) {
    if (!(cause instanceof MalformedConstraintError)) throw cause
    throw badRequest(`version: ${cause.message}; write for example >= 1.2 & < 2`, { cause })
  }
}
