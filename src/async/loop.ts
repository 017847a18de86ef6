import { setTimeout as delay } from 'node:timers/promises'

export type Repeating = { stop(): Promise<void> }

// Longer than a store that answers needs. What is cut off is queued and claimed for a while.
const STOP_MILLISECONDS_MAX = 5_000

/**
 * Does `work` at start and then again and again; never twice at once in one process. `goOn` is to be
 * asked between its steps.
 */
export function startRepeating(
  everySeconds: number,
  work: (goOn: () => boolean) => Promise<void>,
  onError: (error: unknown) => void,
): Repeating {
  let stopped = false
  let busy = false
  let running: Promise<void> = Promise.resolve()
  const once = async (): Promise<void> => {
    try {
      await work(() => !stopped)
    } catch (error) {
      if (!stopped) onError(error)
    } finally {
      busy = false
    }
  }
  const begin = (): void => {
    if (busy) return
    busy = true
    running = once()
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
