import type { Queryable } from '../db/database.ts'
import {
  type KernelVersions,
  listKernelVersions,
  listRunHosts,
  type RunFilter,
  type RunRow,
  scanRuns,
} from '../db/deployments/runs.ts'
import type { Glob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'

export type { RunFilter }

/** A run, with its host and the versions of the wanted package that its image has. */
export type Run = RunRow & {
  readonly host: string
  /** The patterns of what its host may follow. Undefined for a revoked host, and for runs of one host only. */
  readonly hostRepositories: readonly string[] | undefined
  readonly versions?: readonly string[]
}

type FoundRun = RunRow & { readonly versions?: readonly string[] }

/** A package that a run must have. */
export type RunPackage = {
  readonly ecosystem: string
  readonly name: string
  isWanted(version: string): boolean
}

/** A page of runs, which may have fewer than its limit. */
export type RunPage = {
  readonly runs: readonly Run[]
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
  const scanned = await scanRuns(db, filter, visible, before)
  const seen = scanned.runs.filter(({ repository }) => maySee(repository))
  const hits = wanted === undefined ? seen : await withPackage(db, seen, wanted)
  const shown = hits.slice(0, limit)
  const ids = filter.host === undefined ? shown.map(({ hostId }) => hostId) : []
  const hosts = ids.length === 0 ? undefined : await listRunHosts(db, ids)
  const runs = shown.map((run) => {
    const host = hosts?.get(run.hostId)
    return {
      ...run,
      host: host?.name ?? filter.host ?? '',
      hostRepositories: host?.repositories ?? undefined,
    }
  })
  return { runs, next: hits.length > limit ? hits[limit - 1]?.id : scanned.last }
}

async function withPackage(
  db: Queryable,
  runs: readonly RunRow[],
  { ecosystem, name, isWanted }: RunPackage,
): Promise<FoundRun[]> {
  if (runs.length === 0) return []
  const found = await listKernelVersions(db, runs, ecosystem, name)
  const versions = new Map(
    found.map((row) => [keyOf(row), row.versions.filter((version) => isWanted(version))]),
  )
  return runs.flatMap((run) => {
    const own = versions.get(keyOf(run)) ?? []
    return own.length === 0 ? [] : [{ ...run, versions: own }]
  })
}

function keyOf({ repository, kernel }: Pick<KernelVersions, 'repository' | 'kernel'>): string {
  return `${repository}@${kernel}`
}
