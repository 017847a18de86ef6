import { hashSecret } from '../../auth/secrets.ts'
import type { Config } from '../../config/config.ts'
import { withCleanup } from '../cleanup.ts'
import type { Log } from '../log.ts'
import { createMetrics } from '../metrics.ts'
import { type Leave, Readiness } from '../readiness.ts'
import { startServices } from '../services.ts'
import { openDatabase, openStore } from '../stores.ts'
import { VERSION } from '../version.ts'
import type { WorkerStart } from './messages.ts'
import type { Peers } from './peers.ts'

export type RunningWorker = {
  readonly url: string
  /** Drains connections, and closes everything. */
  close(leave: Leave): Promise<void>
}

/** Starts a worker, which answers requests beside others. The primary has prepared Postgres, store and keys. Throws StartError. */
export function startWorker(
  given: Config,
  { connection, databaseConnectionsMax }: WorkerStart,
  peers: Peers,
  log: Log,
): Promise<RunningWorker> {
  const config = { ...given, databaseConnectionsMax }
  return withCleanup(async (cleanup) => {
    const database = await openDatabase(config, {
      ...{ log, cleanup, mayCreate: false, remembersAnswers: true },
      async startEmbedded() {
        if (connection === undefined) throw new Error('the primary did not say where Postgres is')
        return { connection, stop: async () => {} }
      },
    })
    const metrics = createMetrics(VERSION)
    const onStoreCall = metrics.storeCalled
    const opened = await openStore(config, database, { log, cleanup, onStoreCall })
    const stores = { ...database, ...opened }
    const { adminPassword } = config
    const configured = adminPassword === undefined ? undefined : hashSecret(adminPassword)
    const readiness = new Readiness()
    const services = await startServices(
      stores,
      configured,
      config,
      { peers, readiness, metrics },
      log,
      cleanup,
    )
    services.start()
    return {
      url: services.url,
      async close(leave) {
        await readiness.leave(leave)
        await cleanup.run()
      },
    }
  })
}
