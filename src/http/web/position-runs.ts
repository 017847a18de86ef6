import { POSITION_RUNS_MAX, type TagPosition } from '../../registry/tag-history.ts'
import type { PositionRuns } from '../../web/position-runs.tsx'
import type { RouteContext } from '../route.ts'
import { hostPathFor } from './host-links.ts'

/**
 * Returns where a position of a tag ran. A tag may have the same image several times: a run belongs to the newest of these
 * positions that is not younger than it, or else to the oldest one.
 */
export function runsOfPosition(
  ctx: RouteContext,
  position: TagPosition,
  positions: readonly TagPosition[],
): PositionRuns {
  // Newest first: the first of them has the runs.
  const found = positions.find(({ digest }) => digest === position.digest)?.runs ?? []
  if (found.length === 0) return { runs: [], more: false }
  const same = positions.filter(({ digest }) => digest === position.digest)
  const runs = found.filter(({ from }) => {
    const owner = same.find(({ movedAt }) => movedAt <= new Date(from)) ?? same.at(-1)
    return owner?.id === position.id
  })
  return {
    runs: runs.slice(0, POSITION_RUNS_MAX).map(({ host, hostRepositories, from, to }) => ({
      ...{ host, from, to },
      hostPath: hostPathFor(ctx, host, hostRepositories ?? undefined),
    })),
    more: runs.length > POSITION_RUNS_MAX,
  }
}
