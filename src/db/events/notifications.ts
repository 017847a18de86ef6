import { Loop } from '../../async/loop.ts'
import type { Database } from '../database.ts'
import {
  DEPLOYMENTS_CHANNEL,
  type DeploymentNotice,
  parseNotice,
} from '../deployments/notifications.ts'
import type { ProcessLock } from '../process-lock.ts'

/** The channel on which every process is notified of new events. */
const EVENTS_CHANNEL = 'rookery_events'

const RECONNECT_SECONDS = 1
const STOP_SECONDS_MAX = 2

/** Receives notifications. Both are called after each connect too, because notifications may have been missed. */
export type Notified = {
  /** There are new events. */
  onEvents(): void
  /** Hosts have to do something else, or said what they do. Undefined: anything may have changed. */
  onDeployments(notice: DeploymentNotice | undefined): void
  /** The connection was lost, and is made again. */
  onError(error: unknown): void
}

/**
 * Calls `notified` for each notification, over a connection of its own. Callers also poll, because some connection
 * poolers deliver no notification. The same connection holds the lock of the process.
 */
export function listenForNotifications(
  db: Database,
  processLock: ProcessLock,
  notified: Notified,
): Loop {
  return new Loop({
    everySeconds: RECONNECT_SECONDS,
    stopSecondsMax: STOP_SECONDS_MAX,
    work: (signal) => listen(db, processLock, notified, signal),
    onError: (error) => notified.onError(error),
  }).start()
}

/** Listens until the signal is aborted. Throws when the connection breaks. */
async function listen(
  db: Database,
  processLock: ProcessLock,
  notified: Notified,
  signal: AbortSignal,
): Promise<void> {
  const client = await db.session()
  let stop: () => void = () => {}
  try {
    const ended = new Promise<void>((resolve, reject) => {
      client.on('error', reject)
      client.on('end', () => reject(new Error('the LISTEN connection ended')))
      stop = resolve
    })
    signal.addEventListener('abort', stop)
    // Nothing awaits it before the first query is answered.
    ended.catch(() => {})
    client.on('notification', ({ channel, payload }) => {
      if (channel === EVENTS_CHANNEL) notified.onEvents()
      else notified.onDeployments(parseNotice(payload))
    })
    await client.query(`listen ${EVENTS_CHANNEL}; listen ${DEPLOYMENTS_CHANNEL}`)
    await processLock.take(client)
    notified.onEvents()
    notified.onDeployments(undefined)
    if (!signal.aborted) await ended
  } finally {
    processLock.lose()
    signal.removeEventListener('abort', stop)
    client.removeAllListeners('notification')
    client.release(true)
  }
}
