import { type Repeating, startRepeating } from '../../async/loop.ts'
import type { Garbage, Swept } from './garbage.ts'

export type SweepingOptions = {
  readonly everySeconds: number
  onSwept(swept: Swept): void
  onError(error: unknown): void
}

// A sweep that found much to do goes on at once, but leaves the rest to the next one some time.
const ROUNDS_A_SWEEP_MAX = 1000

/** Sweeps rounds until one finds nothing; `goOn` is asked before each. */
export async function sweepAll(garbage: Garbage, goOn: () => boolean = () => true): Promise<Swept> {
  let total: Swept = { uploads: 0, checked: 0, blobs: 0, bytes: 0, removals: 0, failures: [] }
  for (let round = 0; round < ROUNDS_A_SWEEP_MAX && goOn(); round += 1) {
    const swept = await garbage.sweep()
    total = sum(total, swept)
    // What failed is not due again soon, so that a round of nothing but failures is the last.
    if (swept.uploads + swept.checked + swept.removals === 0) break
  }
  return total
}

function sum(a: Swept, b: Swept): Swept {
  return {
    uploads: a.uploads + b.uploads,
    checked: a.checked + b.checked,
    blobs: a.blobs + b.blobs,
    bytes: a.bytes + b.bytes,
    removals: a.removals + b.removals,
    failures: [...a.failures, ...b.failures],
  }
}

/** Sweeps at start and then again and again. */
export function startSweeping(
  garbage: Garbage,
  { everySeconds, onSwept, onError }: SweepingOptions,
): Repeating {
  const sweep = async (goOn: () => boolean) => onSwept(await sweepAll(garbage, goOn))
  return startRepeating(everySeconds, sweep, onError)
}
