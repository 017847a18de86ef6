import { type Repeating, startRepeating } from '../../async/loop.ts'
import type { GarbageCollector, SweepReport } from './garbage.ts'

export type GarbageCollectionOptions = {
  readonly everySeconds: number
  onSwept(swept: SweepReport): void
  onError(error: unknown): void
}

// A sweep that found much to do goes on at once, but leaves the rest to the next one some time.
const ROUNDS_A_SWEEP_MAX = 1000

/** Sweeps rounds until one finds nothing; `goOn` is asked before each. */
export async function sweepAll(
  garbage: GarbageCollector,
  goOn: () => boolean = () => true,
): Promise<SweepReport> {
  let total: SweepReport = {
    uploads: 0,
    checked: 0,
    blobs: 0,
    bytes: 0,
    deletions: 0,
    failures: [],
  }
  for (let round = 0; round < ROUNDS_A_SWEEP_MAX && goOn(); round += 1) {
    const swept = await garbage.sweep()
    total = sum(total, swept)
    // What failed is not due again soon, so that a round of nothing but failures is the last.
    if (swept.uploads + swept.checked + swept.deletions === 0) break
  }
  return total
}

function sum(a: SweepReport, b: SweepReport): SweepReport {
  return {
    uploads: a.uploads + b.uploads,
    checked: a.checked + b.checked,
    blobs: a.blobs + b.blobs,
    bytes: a.bytes + b.bytes,
    deletions: a.deletions + b.deletions,
    failures: [...a.failures, ...b.failures],
  }
}

/** Sweeps at start and then again and again. */
export function startGarbageCollection(
  garbage: GarbageCollector,
  { everySeconds, onSwept, onError }: GarbageCollectionOptions,
): Repeating {
  const sweep = async (goOn: () => boolean) => onSwept(await sweepAll(garbage, goOn))
  return startRepeating(everySeconds, sweep, onError)
}
