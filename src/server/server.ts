import { listDifferences } from '../config/agreement.ts'
import type { Config } from '../config/config.ts'
import type { Queryable } from '../db/database.ts'
import { findLastStart, type LastStart, recordStart } from '../db/last-start.ts'
import { ProcessLock } from '../db/process-lock.ts'
import { DeploymentSignals } from '../deployments/signals.ts'
import { Deriver } from '../derivation/deriver.ts'
import { startEmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import { type AdminPassword, ensureAdminPassword } from './admin-password.ts'
import { buildAuth } from './auth.ts'
import { CleanupStack } from './cleanup.ts'
import { connectionLimits } from './connection-limits.ts'
import { startDeployments } from './deployments.ts'
import { buildEventPipeline } from './events.ts'
import { startHostServices } from './hosts.ts'
import { startHttp } from './http.ts'
import { assertAddressFree } from './listen.ts'
import type { Log } from './log.ts'
import { startMaintenance } from './maintenance.ts'
import { createMetrics } from './metrics.ts'
import { startOpamIndex } from './opam-index.ts'
import { startPictures } from './pictures.ts'
import { buildRegistry } from './registry.ts'
import { RegistryAddress } from './registry-address.ts'
import { openStores } from './stores.ts'
import { VERSION } from './version.ts'

export type RunningServer = {
  /** The URL on which it listens, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly adminPassword: AdminPassword
  /** Drains connections, and closes everything. A second call does nothing. */
  close(): Promise<void>
}

/**
 * Builds and starts the registry of a configuration. Throws StartError, ConfigError or
 * EmbeddedPostgresError for a problem that the operator can solve, and then closes what it opened.
 * `onPostgresLost` is called when the embedded Postgres died and cannot be started again. `signal` ends the wait for a
 * database that does not answer yet; its reason is thrown.
 */
export async function startServer(
  config: Config,
  log: Log,
  onPostgresLost: (error: Error) => void,
  signal: AbortSignal = new AbortController().signal,
): Promise<RunningServer> {
  const cleanup = new CleanupStack()
  try {
    return await start(config, log, onPostgresLost, signal, cleanup)
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

async function start(
  config: Config,
  log: Log,
  onPostgresLost: (error: Error) => void,
  signal: AbortSignal,
  cleanup: CleanupStack,
): Promise<RunningServer> {
  await assertAddressFree(config.listen)
  const limits = await connectionLimits(config)
  const stores = await openStores(config, {
    ...{ log, cleanup, mayCreate: true, wait: { seconds: config.databaseWaitSeconds, signal } },
    startEmbedded: (options) => startEmbeddedPostgres({ ...options, onLost: onPostgresLost }),
  })
  const { db, dataFolder } = stores
  const adminPassword = await ensureAdminPassword(db, dataFolder, config)
  const { generated, file } = adminPassword
  if (generated !== undefined) log.info({ file }, 'made the password of the user admin')
  const onCommitted = () => events.sequencer.poke()
  const { configuredSha256 } = adminPassword
  const auth = await buildAuth(stores, config, configuredSha256, log, cleanup, onCommitted)
  const { issuer, keys, masterKey } = auth
  const metrics = createMetrics(VERSION)
  const address = new RegistryAddress(config)
  const processLock = new ProcessLock()
  const signals = new DeploymentSignals()
  const events = buildEventPipeline(
    { db, processLock, issuer, keys, masterKey, metrics, signals, registry: () => address.host },
    config,
    log,
    cleanup,
  )
  const deriver = new Deriver()
  cleanup.defer(() => deriver.close())
  metrics.registerDerivations(() => deriver.waiting)
  const pictures = startPictures(stores, log, cleanup)
  const made = { deriver, pictures }
  const registry = buildRegistry(stores, config, made, processLock, onCommitted)
  startMaintenance(stores, registry, onCommitted, config, log, cleanup)
  startOpamIndex(stores, config, log, cleanup)
  const actions = startDeployments({ db, signals }, config.eventDays, onCommitted, log, cleanup)
  const hostDeps = { db, signals, hostsMax: limits.waiting }
  const hosts = startHostServices(hostDeps, config.eventDays, onCommitted, log, cleanup)
  const http = { stores, auth, registry, events, hosts, metrics, signals, actions, address, limits }
  const url = await startHttp(http, config, log, cleanup)
  address.listensAt(url)
  await leaveSettings(db, { url, settings: config.shared }, log)
  events.start()
  log.info({ url, version: VERSION, dataFolder, blobs: stores.storeName }, 'listening')
  return { url, adminPassword, close: () => cleanup.run() }
}

/** Leaves the address and the shared settings for commands. */
async function leaveSettings(db: Queryable, start: LastStart, log: Log): Promise<void> {
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
