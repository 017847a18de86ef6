import { listDifferences } from '../config/agreement.ts'
import type { Config } from '../config/config.ts'
import type { Queryable } from '../db/database.ts'
import { findLastStart, type LastStart, recordStart } from '../db/last-start.ts'
import { startEmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import { type AdminPassword, ensureAdminPassword } from './admin-password.ts'
import { type CleanupStack, withCleanup } from './cleanup.ts'
import { assertAddressFree } from './listen.ts'
import type { Log } from './log.ts'
import { startMaintenance } from './maintenance.ts'
import { createMetrics } from './metrics.ts'
import { startMetricsRefresh } from './metrics-refresh.ts'
import { startOpamIndex } from './opam-index.ts'
import { Readiness } from './readiness.ts'
import { startServices } from './services.ts'
import { openStores } from './stores.ts'
import { VERSION } from './version.ts'
import { NO_PEERS } from './workers/peers.ts'

export type RunningServer = {
  /** The URL on which it listens, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly adminPassword: AdminPassword
  /** Replaces the processes that answer requests, one after the other; undefined: the server is one process. */
  readonly reload?: () => Promise<void>
  /** Drains connections, and closes everything. A second call does nothing. */
  close(): Promise<void>
}

/**
 * Builds and starts the registry of a configuration in this process. Throws StartError, ConfigError or
 * EmbeddedPostgresError for a problem that the operator can solve, and then closes what it opened.
 * `onPostgresLost` is called when the embedded Postgres died and cannot be started again. `signal` ends the wait for a
 * database that does not answer yet; its reason is thrown.
 */
export function startServer(
  config: Config,
  log: Log,
  onPostgresLost: (error: Error) => void,
  signal: AbortSignal = new AbortController().signal,
): Promise<RunningServer> {
  return withCleanup((cleanup) => start(config, log, onPostgresLost, signal, cleanup))
}

async function start(
  config: Config,
  log: Log,
  onPostgresLost: (error: Error) => void,
  signal: AbortSignal,
  cleanup: CleanupStack,
): Promise<RunningServer> {
  await assertAddressFree(config.listen)
  const metrics = createMetrics(VERSION)
  const stores = await openStores(config, {
    remembersAnswers: true,
    onStoreCall: (call) => metrics.storeCalled(call),
    ...{ log, cleanup, mayCreate: true, wait: { seconds: config.databaseWaitSeconds, signal } },
    startEmbedded: (options) => startEmbeddedPostgres({ ...options, onLost: onPostgresLost }),
  })
  const { db, dataFolder } = stores
  const adminPassword = await openAdminPassword(stores, config, log)
  const readiness = new Readiness()
  const services = await startServices(
    stores,
    adminPassword.configuredSha256,
    config,
    { peers: NO_PEERS, readiness, metrics },
    log,
    cleanup,
  )
  const { url, registry } = services
  startMaintenance(stores, registry, metrics, config, log, cleanup)
  startMetricsRefresh(stores, metrics, log, cleanup)
  startOpamIndex(stores, config, log, cleanup)
  await leaveSettings(db, { url, settings: config.shared }, log)
  services.start()
  log.info({ url, version: VERSION, dataFolder, blobs: stores.storeName }, 'listening')
  const close = async () => {
    await readiness.leave({ delaySeconds: config.drainDelaySeconds, idleSeconds: 0 })
    await cleanup.run()
  }
  return { url, adminPassword, close }
}

/** Ensures the password of the user admin, and logs a new one's file. */
export async function openAdminPassword(
  { db, dataFolder }: { readonly db: Queryable; readonly dataFolder: string },
  config: Config,
  log: Log,
): Promise<AdminPassword> {
  const adminPassword = await ensureAdminPassword(db, dataFolder, config)
  const { generated, file } = adminPassword
  if (generated !== undefined) log.info({ file }, 'made the password of the user admin')
  return adminPassword
}

/** Leaves the address and the shared settings for commands. */
export async function leaveSettings(db: Queryable, start: LastStart, log: Log): Promise<void> {
  const last = await findLastStart(db)
  const changed = last === undefined ? [] : listDifferences(start.settings, last.settings)
  if (changed.length > 0) {
    log.warn(
      { changed },
      'settings differ from those of the last start; replicas must have the same',
    )
  }
  await recordStart(db, start)
}
