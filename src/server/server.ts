import type { Server } from 'node:http'
import type { Config } from '../config/config.ts'
import { startEmbeddedPostgres } from '../embedded-postgres/supervisor.ts'
import { clientAddress, publicBaseUrl } from '../http/addresses.ts'
import { createApp } from '../http/app.ts'
import { Connections, createHttpServer } from '../http/connections.ts'
import { ConnectionLimit } from '../http/event-stream.ts'
import { InFlightRequests } from '../http/in-flight.ts'
import type { RouteContext } from '../http/route.ts'
import { allRoutes } from '../http/routes.ts'
import { Blobs } from '../registry/blobs.ts'
import { ImageAnalyzer } from '../registry/images/analyzer.ts'
import { ImageBuilder } from '../registry/images/builder.ts'
import { Images } from '../registry/images/images.ts'
import { PackageSearch } from '../registry/images/package-search.ts'
import { startReanalysis } from '../registry/images/reanalysis.ts'
import { Listings } from '../registry/listings.ts'
import { GarbageCollector, type SweepReport } from '../registry/maintenance/garbage.ts'
import { startGarbageCollection } from '../registry/maintenance/gc-loop.ts'
import { Manifests } from '../registry/manifests.ts'
import { Repositories } from '../registry/repositories.ts'
import { TagHistory } from '../registry/tag-history.ts'
import { Uploads } from '../registry/uploads/uploads.ts'
import { type AdminPassword, ensureAdminPassword } from './admin-password.ts'
import { buildAuth } from './auth.ts'
import { CleanupStack } from './cleanup.ts'
import { buildEventPipeline, registryName } from './events.ts'
import { assertAddressFree, listen } from './listen.ts'
import type { Log } from './log.ts'
import { createMetrics } from './metrics.ts'
import { openStores } from './stores.ts'
import { VERSION } from './version.ts'

const HANDLERS_MILLISECONDS_MAX = 5_000

export type RunningServer = {
  /** Where it listens, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly adminPassword: AdminPassword
  /** Drains, and lets go of everything; can be called twice. */
  close(): Promise<void>
}

/**
 * Builds the whole registry out of its configuration and starts it. Throws StartError, ConfigError
 * or EmbeddedPostgresError when an operator can mend it; what had started is stopped again.
 */
export async function startServer(
  config: Config,
  log: Log,
  onLost: (error: Error) => void,
): Promise<RunningServer> {
  const cleanup = new CleanupStack()
  try {
    return await assemble(config, log, onLost, cleanup)
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

async function assemble(
  config: Config,
  log: Log,
  onLost: (error: Error) => void,
  cleanup: CleanupStack,
): Promise<RunningServer> {
  await assertAddressFree(config.listen)
  const state = await openStores(config, log, cleanup, (options) =>
    startEmbeddedPostgres({ ...options, onLost }),
  )
  const { db, store, dataFolder } = state
  const credential = await ensureAdminPassword(db, dataFolder, config.adminPassword)
  const authority = await buildAuth(state, config, credential.configuredSha256, log, cleanup)
  const { authenticator, audit, issuer, keys, masterKey } = authority
  const metrics = createMetrics()
  let listensAt: string | undefined
  const registry = () => registryName(config, listensAt)
  const telling = buildEventPipeline(
    { db, issuer, keys, masterKey, metrics, registry },
    config,
    log,
    cleanup,
  )
  const waiters = new ConnectionLimit(config.feedClientsPerAddress)
  metrics.registerFeedClients(() => waiters.count)
  const onCommitted = () => telling.sequencer.poke()
  const reached = (ctx: RouteContext) =>
    publicBaseUrl(ctx.req, config.trustedProxies, config.publicUrl)
  const visibility = config.defaultVisibility
  const uploads = new Uploads(db, store, {
    lifetimeSeconds: config.uploadLifetimeSeconds,
    blobBytesMax: config.blobBytesMax,
    visibility,
  })
  const reader = new ImageAnalyzer(db, store)
  const manifests = new Manifests(db, visibility, reader, onCommitted)
  const running = new InFlightRequests()
  const app = createApp({
    routes: allRoutes({
      uploads,
      blobs: new Blobs(db, store, { visibility, graceSeconds: config.gcGraceSeconds }),
      manifests,
      imageBuilder: new ImageBuilder(uploads, manifests, reader),
      images: new Images(db),
      packageSearch: new PackageSearch(db),
      tagHistory: new TagHistory(db, onCommitted),
      listings: new Listings(db),
      repositories: new Repositories(db, visibility),
      webhooks: telling.webhooks,
      webhookDeliveries: telling.webhookDeliveries,
      feed: { feed: telling.feed, connections: waiters, authenticator, registry },
      auth: authority,
      publicBaseUrl: reached,
      version: VERSION,
      operations: {
        metrics: () => metrics.render(),
        async check() {
          await Promise.all([db.query('select 1 as one'), store.check()])
        },
      },
    }),
    authorization: { authenticator, audit, service: issuer.service, publicBaseUrl: reached },
    observe(observation) {
      metrics.observe(observation)
      const { isWrite: change, ...fields } = observation
      log[change ? 'info' : 'debug'](fields, 'request')
    },
    reportError: (error, requestId) => log.error({ err: error, requestId }, 'a request failed'),
    inFlight: running,
    addressOf: (ctx) => clientAddress(ctx.req, config.trustedProxies),
  })
  const sweeping = startGarbageCollection(new GarbageCollector(db, store, config.gcGraceSeconds), {
    everySeconds: config.gcIntervalSeconds,
    onSwept: (swept) => reportSweep(swept, log),
    onError: (error) => log.error({ err: error }, 'sweeping garbage failed'),
  })
  cleanup.defer(() => sweeping.stop())
  const reanalysis = startReanalysis(
    db,
    reader,
    (counts) => log.info(counts, 'manifests analyzed again'),
    (error) => log.error({ err: error }, 'analyzing manifests again failed; retrying'),
  )
  cleanup.defer(() => reanalysis.stop())
  const server: Server = createHttpServer(app.callback())
  const connections = new Connections(server)
  const url = await listen(server, config.listen)
  cleanup.defer(async () => {
    waiters.close()
    await connections.drain(config.drainSeconds * 1000)
    // Handlers whose connection was cut still give back what they hold in the database.
    await running.waitUntilIdle(HANDLERS_MILLISECONDS_MAX)
  })
  listensAt = url
  telling.start()
  log.info({ url, dataFolder, blobs: state.storeName }, 'listening')
  return { url, adminPassword: credential, close: () => cleanup.run() }
}

function reportSweep({ failures, checked: _checked, ...counts }: SweepReport, log: Log): void {
  const [first] = failures
  if (first !== undefined) {
    log.error({ err: first, failures: failures.length }, 'bytes could not be removed; trying again')
  }
  if (counts.uploads + counts.blobs + counts.deletions > 0) log.info(counts, 'garbage swept')
}
