import { Loop } from '../../async/loop.ts'
import type { GarbageCollector, SweepReport } from './garbage.ts'

export type GarbageCollectionOptions = {
  readonly everySeconds: number
  /** Receives each sweep, and how long it took. */
  onSwept(report: SweepReport, seconds: number): void
  onError(error: unknown): void
}

// A sweep continues while it finds garbage, and leaves the rest to the next sweep after this many rounds.
const ROUNDS_A_SWEEP_MAX = 1000

/** Sweeps in rounds until one finds nothing, or the signal is aborted. */
export async function sweepAll(
  collector: GarbageCollector,
  signal?: AbortSignal,
): Promise<SweepReport> {
  let total: SweepReport = {
    uploads: 0,
    repositories: 0,
    contents: 0,
    checked: 0,
    blobs: 0,
    bytes: 0,
    deletions: 0,
    failures: [],
  }
  for (let round = 0; round < ROUNDS_A_SWEEP_MAX && signal?.aborted !== true; round += 1) {
    const report = await collector.sweep()
    total = sum(total, report)
    // A failed deletion is not due again soon, so a round that only fails is the last one.
    const { uploads, repositories, contents, checked, deletions } = report
    if (uploads + repositories + contents + checked + deletions === 0) break
  }
  return total
}

function sum(a: SweepReport, b: SweepReport): SweepReport {
  return {
    uploads: a.uploads + b.uploads,
    repositories: a.repositories + b.repositories,
    contents: a.contents + b.contents,
    checked: a.checked + b.checked,
    blobs: a.blobs + b.blobs,
    bytes: a.bytes + b.bytes,
    deletions: a.deletions + b.deletions,
    failures: [...a.failures, ...b.failures],
  }
}

/** Sweeps now, and then every `everySeconds`. */
export function startGarbageCollection(
  collector: GarbageCollector,
  { everySeconds, onSwept, onError }: GarbageCollectionOptions,
): Loop {
  return new Loop({
    everySeconds,
    onError,
    async work(signal) {
      const startedAt = performance.now()
      const report = await sweepAll(collector, signal)
      onSwept(report, (performance.now() - startedAt) / 1000)
    },
  }).start()
}
