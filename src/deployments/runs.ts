import type { Queryable } from '../db/database.ts'
import {
  type PackageName,
  RUNS_SCANNED_MAX,
  type RunFilter,
  type RunRow,
  scanRuns,
} from '../db/deployments/runs.ts'
import { isExact } from '../db/name-patterns.ts'
import type { Glob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'

export type { RunFilter, RunRow as Run }

/** A package that a run must have. */
export type RunPackage = PackageName & {
  /** Undefined: every version is wanted. */
  readonly isWanted: ((version: string) => boolean) | undefined
}

/** A page of runs, which may have fewer than its limit. */
export type RunPage = {
  readonly runs: readonly RunRow[]
  /** The id before which the next page begins; undefined at the end. */
  readonly next: number | undefined
}

/**
 * Lists runs before an id, newest first: which kernel ran where and when. Only in repositories that match `visible` and
 * that the caller may see. With a package, only runs of kernels whose image lists it in a wanted version.
 */
export async function listRuns(
  db: Queryable,
  filter: RunFilter,
  wanted: RunPackage | undefined,
  visible: readonly Glob[],
  maySee: (repository: Repository) => boolean,
  before: number,
  limit: number,
): Promise<RunPage> {
  const isFiltered = wanted?.isWanted !== undefined || !visible.every(isExact)
  const count = isFiltered ? RUNS_SCANNED_MAX : limit + 1
  const scanned = await scanRuns(db, filter, wanted, visible, before, count)
  const hits = scanned.runs.flatMap((run) => (maySee(run.repository) ? wantedOf(run, wanted) : []))
  if (hits.length > limit) return { runs: hits.slice(0, limit), next: hits[limit - 1]?.id }
  return { runs: hits, next: scanned.runs.length < count ? scanned.last : scanned.runs.at(-1)?.id }
}

/** The run with the versions that are wanted; none when it has no such version. */
function wantedOf(run: RunRow, wanted: RunPackage | undefined): RunRow[] {
  const { isWanted } = wanted ?? {}
  if (isWanted === undefined) return [run]
  const versions = run.versions?.filter((version) => isWanted(version)) ?? []
  return versions.length === 0 ? [] : [{ ...run, versions }]
}
