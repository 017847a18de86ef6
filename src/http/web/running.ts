import { hostPatterns, maySeeHosts } from '../../auth/access.ts'
import { listRuns, type Run, type RunFilter, type RunPackage } from '../../deployments/runs.ts'
import type { RunList } from '../../web/run-table.tsx'
import type { AskQuestion } from '../question-budget.ts'
import type { RouteContext } from '../route.ts'
import { hostPathFor } from './host-links.ts'

/** Runs that a page shows. */
const RUNS = 10
const NEWEST = Number.MAX_SAFE_INTEGER

/** Runs that a page shows, and the path of their list in the API. */
export type RunQuestion = Partial<RunFilter> & {
  readonly package?: RunPackage
  /** The path of the list in the API. */
  readonly json: string
}

/** Lists the newest runs that the caller may see; undefined for one who may see none at all. */
export async function listRunsForPage(
  ctx: RouteContext,
  ask: AskQuestion,
  question: RunQuestion,
): Promise<RunList | undefined> {
  const { caller } = ctx.state
  const { package: wanted, json, kernel, repository, host, running } = question
  const patterns = hostPatterns(caller)
  if (patterns.length === 0) return undefined
  const filter = { kernel, repository, host, running }
  const maySee = (one: Run['repository']) => maySeeHosts(caller, one)
  const { runs, next } = await listRuns(ask(ctx), filter, wanted, patterns, maySee, NEWEST, RUNS)
  const items = runs.map((run) => ({
    ...run,
    // The page of a host has no links to itself.
    hostPath:
      host === undefined
        ? hostPathFor(ctx, run.host, run.hostRepositories ?? undefined)
        : undefined,
  }))
  return { runs: items, more: next !== undefined, json }
}
