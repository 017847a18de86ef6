import { Loop } from '../../async/loop.ts'
import type { Database } from '../database.ts'
import type { ProcessLock } from '../process-lock.ts'

/** The channel on which every process is notified of new events. */
const EVENTS_CHANNEL = 'rookery_events'

const RECONNECT_SECONDS = 1
const STOP_SECONDS_MAX = 2

/**
 * Calls `onNotified` for each notification of new events, over a connection of its own. Calls it after
 * each connect too, because notifications may have been missed. A lost connection is reported and made
 * again. Callers also poll, because some connection poolers deliver no notification. The same connection holds the lock
 * of the process.
 */
export function listenForEvents(
  db: Database,
  processLock: ProcessLock,
  { onNotified, onError }: { onNotified(): void; onError(error: unknown): void },
): Loop {
  return new Loop({
    everySeconds: RECONNECT_SECONDS,
    stopSecondsMax: STOP_SECONDS_MAX,
    work: (signal) => listen(db, processLock, onNotified, signal),
    onError,
  }).start()
}

/** Listens until the signal is aborted. Throws when the connection breaks. */
async function listen(
  db: Database,
  processLock: ProcessLock,
  onNotified: () => void,
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
    client.on('notification', onNotified)
    await client.query(`listen ${EVENTS_CHANNEL}`)
    await processLock.take(client)
    onNotified()
    if (!signal.aborted) await ended
  } finally {
    processLock.lose()
    signal.removeEventListener('abort', stop)
    client.removeAllListeners('notification')
    client.release(true)
  }
}
