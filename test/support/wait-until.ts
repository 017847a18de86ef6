import { setTimeout as delay } from 'node:timers/promises'

const MILLISECONDS_MAX = 20_000
const LOOK_EVERY_MILLISECONDS = 20

/**
 * Waits until `holds` returns true, where `expect.poll` cannot be awaited. Throws after 20 seconds.
 */
export async function waitUntil(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + MILLISECONDS_MAX
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error('waited in vain')
    await delay(LOOK_EVERY_MILLISECONDS)
  }
}
