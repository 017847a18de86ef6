import { POSITION_RUNS_MAX, type TagPosition } from '../../registry/tag-history.ts'
import type { PositionRuns } from '../../web/position-runs.tsx'
import type { RouteContext } from '../route.ts'
import { hostPathFor } from './host-links.ts'

/**
 * Returns the position of a tag to which something of an image at a time belongs: a tag may have had the same image several
 * times, so it is the newest of these positions that is not younger, or else the oldest one.
 */
export function positionAt<Position extends Pick<TagPosition, 'digest' | 'movedAt'>>(
  positions: readonly Position[],
  digest: TagPosition['digest'],
  at: Date,
): Position | undefined {
  // Newest first.
  const same = positions.filter((one) => one.digest === digest)
  return same.find(({ movedAt }) => movedAt <= at) ?? same.at(-1)
}

/** Returns where a position of a tag ran. */
export function runsOfPosition(
  ctx: RouteContext,
  position: TagPosition,
  positions: readonly TagPosition[],
): PositionRuns {
  // The first of the positions with the image has the runs of all of them.
  const found = positions.find(({ digest }) => digest === position.digest)?.runs ?? []
  const runs = found.filter(
    ({ from }) => positionAt(positions, position.digest, new Date(from)) === position,
  )
  return {
    runs: runs.slice(0, POSITION_RUNS_MAX).map(({ host, hostRepositories, from, to }) => ({
      ...{ host, from, to },
      hostPath: hostPathFor(ctx, host, hostRepositories ?? undefined),
    })),
    more: runs.length > POSITION_RUNS_MAX,
  }
}
