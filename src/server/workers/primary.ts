import { unlessAborted } from '../../async/unless-aborted.ts'
import type { Config } from '../../config/config.ts'
import { ProcessLock } from '../../db/process-lock.ts'
import { Deriver } from '../../derivation/deriver.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../embedded-postgres/supervisor.ts'
import { type CleanupStack, withCleanup } from '../cleanup.ts'
import { connectionLimits } from '../connection-limits.ts'
import { assertAddressFree } from '../listen.ts'
import type { Log } from '../log.ts'
import { startMaintenance } from '../maintenance.ts'
import { createMetrics } from '../metrics.ts'
import { registerPools, startMetricsRefresh } from '../metrics-refresh.ts'
import { startOpamIndex } from '../opam-index.ts'
import { startPictures } from '../pictures.ts'
import { buildRegistry } from '../registry.ts'
import { leaveSettings, openAdminPassword, type RunningServer } from '../server.ts'
import { openSigningKeys } from '../signing-keys.ts'
import { openStores } from '../stores.ts'
import { VERSION } from '../version.ts'
import { PrimaryChannel } from './primary-channel.ts'
import { connectionShares } from './shares.ts'
import { WorkerSet } from './worker-set.ts'

/**
 * Starts a server of several processes. This one, the primary, runs the embedded Postgres, migrates the schema, makes the
 * admin password and the keys, sweeps and imports; the workers answer requests. Throws as startServer does.
 */
export function startPrimary(
  config: Config,
  log: Log,
  onPostgresLost: (error: Error) => void,
  signal: AbortSignal,
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
  await connectionLimits(config)
  const shares = connectionShares(config)
  const metrics = createMetrics(VERSION)
  let embedded: EmbeddedPostgres | undefined
  const stores = await openStores(
    { ...config, databaseConnectionsMax: shares.primary },
    {
      onStoreCall: (call) => metrics.storeCalled(call),
      ...{ log, cleanup, mayCreate: true, wait: { seconds: config.databaseWaitSeconds, signal } },
      async startEmbedded(options) {
        const connectionsMax = shares.all
        embedded = await startEmbeddedPostgres({
          ...options,
          connectionsMax,
          onLost: onPostgresLost,
        })
        return embedded
      },
    },
  )
  const adminPassword = await openAdminPassword(stores, config, log)
  // Made here, so that the workers find them.
  await openSigningKeys(stores, config)
  const channel = new PrimaryChannel()
  registerPools(stores, metrics)
  channel.onAsk('metrics', () => metrics.collect())
  const deriver = new Deriver()
  cleanup.defer(() => deriver.close())
  const pictures = startPictures(stores, log, cleanup)
  const onCommitted = () => channel.post('committed', null)
  const made = { deriver, pictures }
  const registry = buildRegistry(stores, config, made, new ProcessLock(), onCommitted)
  startMaintenance(stores, registry, metrics, config, log, cleanup)
  startMetricsRefresh(stores, metrics, log, cleanup)
  startOpamIndex(stores, config, log, cleanup)
  const workers = new WorkerSet({
    ...{ count: config.workers, channel, log, drainSeconds: config.drainSeconds },
    start: { connection: embedded?.connection, databaseConnectionsMax: shares.worker },
  })
  cleanup.defer(() => workers.stop())
  const url = await unlessAborted(workers.start(), signal)
  await leaveSettings(stores.db, { url, settings: config.shared }, log)
  const { dataFolder, storeName: blobs } = stores
  log.info({ url, version: VERSION, dataFolder, blobs, workers: config.workers }, 'listening')
  const close = async () => {
    await workers.stop(config.drainDelaySeconds)
    await cleanup.run()
  }
  return { url, adminPassword, reload: () => workers.replaceAll(), close }
}
