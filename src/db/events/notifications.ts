import type { Database } from '../database.ts'

/** The channel on which everybody hears of new events. */
export const EVENTS_CHANNEL = 'rookery_events'

export type Listening = { stop(): Promise<void> }

const RECONNECT_MILLISECONDS = 1_000
const STOP_MILLISECONDS_MAX = 2_000

/**
 * Calls `onNotified` for each notification on EVENTS_CHANNEL, on a connection of its own that is made
 * anew when it breaks; `onNotified` is then called too, because some may have been missed. Who needs
 * certainty also looks now and then: behind some poolers nothing arrives.
 */
export function listenForEvents(
  db: Database,
  onNotified: () => void,
  onBroken: (error: unknown) => void,
): Listening {
  let stopped = false
  let wake: () => void = () => {}
  const asleep = (milliseconds: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  const listenOnce = async (): Promise<void> => {
    const client = await db.session()
    try {
      const ended = new Promise<void>((resolve, reject) => {
        client.on('error', reject)
        client.on('end', () => reject(new Error('the connection that listens for events ended')))
        wake = resolve
      })
      // Nobody waits for it before the first query is answered.
      ended.catch(() => {})
      client.on('notification', onNotified)
      await client.query('listen rookery_events')
      onNotified()
      if (!stopped) await ended
    } finally {
      client.removeAllListeners('notification')
      client.release(true)
    }
  }
  const running = (async () => {
    while (!stopped) {
      try {
        await listenOnce()
      } catch (error) {
        if (stopped) return
        onBroken(error)
        await asleep(RECONNECT_MILLISECONDS)
      }
    }
  })()
  return {
    async stop() {
      stopped = true
      wake()
      await Promise.race([running, asleepUnref(STOP_MILLISECONDS_MAX)])
    },
  }
}

function asleepUnref(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref())
}
