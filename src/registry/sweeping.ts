export type SweepingOptions = {
  onSwept(count: number): void
  onError(error: unknown): void
}

const SWEEP_EVERY_MILLISECONDS = 60_000
// A sweep that found much to do goes on at once, but leaves the rest to the next one some time.
const ROUNDS_A_SWEEP_MAX = 100

export type Sweeping = { stop(): Promise<void> }

/** Calls `sweep` at start and every minute until it returns 0; never twice at once. */
export function startSweeping(
  sweep: () => Promise<number>,
  { onSwept, onError }: SweepingOptions,
): Sweeping {
  let stopped = false
  const run = async (): Promise<void> => {
    try {
      let swept = 0
      for (let round = 0; round < ROUNDS_A_SWEEP_MAX && !stopped; round += 1) {
        const count = await sweep()
        if (count === 0) break
        swept += count
      }
      if (swept > 0) onSwept(swept)
    } catch (error) {
      onError(error)
    }
  }
  let running = run()
  let busy = true
  const settle = () => {
    busy = false
  }
  void running.then(settle)
  const timer = setInterval(() => {
    if (busy) return
    busy = true
    running = run()
    void running.then(settle)
  }, SWEEP_EVERY_MILLISECONDS)
  timer.unref()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await running
    },
  }
}
