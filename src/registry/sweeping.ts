import { setTimeout as delay } from 'node:timers/promises'
import type { Garbage, Swept } from './garbage.ts'

export type SweepingOptions = {
  readonly everySeconds: number
  onSwept(swept: Swept): void
  onError(error: unknown): void
}

// A sweep that found much to do goes on at once, but leaves the rest to the next one some time.
const ROUNDS_A_SWEEP_MAX = 1000

// Longer than a store that answers needs. What is cut off is queued and claimed for a while.
const STOP_MILLISECONDS_MAX = 5_000

export type Sweeping = { stop(): Promise<void> }

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

/** Sweeps at start and then again and again; never twice at once in one process. */
export function startSweeping(
  garbage: Garbage,
  { everySeconds, onSwept, onError }: SweepingOptions,
): Sweeping {
  let stopped = false
  let busy = false
  let running: Promise<void> = Promise.resolve()
  const sweep = async (): Promise<void> => {
    try {
      onSwept(await sweepAll(garbage, () => !stopped))
    } catch (error) {
      if (!stopped) onError(error)
    } finally {
      busy = false
    }
  }
  const begin = (): void => {
    if (busy) return
    busy = true
    running = sweep()
  }
  begin()
  const timer = setInterval(begin, everySeconds * 1000)
  timer.unref()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await Promise.race([running, delay(STOP_MILLISECONDS_MAX, undefined, { ref: false })])
    },
  }
}
