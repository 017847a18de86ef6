import { mkdir } from 'node:fs/promises'
import type { Server } from 'node:http'
import { join, resolve } from 'node:path'
import { AdminAuthenticator } from './auth/authenticator.ts'
import type { Config } from './config.ts'
import { type FirstCredential, firstCredential } from './credential.ts'
import { checkPostgres, Database } from './db/database.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './db/embedded/supervisor.ts'
import { migrate } from './db/migrations.ts'
import { clientAddress } from './http/addresses.ts'
import { createApp } from './http/app.ts'
import { Connections, createHttpServer } from './http/connections.ts'
import { allRoutes } from './http/routes.ts'
import { Running } from './http/running.ts'
import { demandFree, listen, StartError, Starting } from './listening.ts'
import type { Log } from './log.ts'
import { createMetrics } from './metrics.ts'
import { Blobs } from './registry/blobs.ts'
import { Garbage, type Swept } from './registry/garbage.ts'
import { Listings } from './registry/listings.ts'
import { Manifests } from './registry/manifests.ts'
import { startSweeping } from './registry/sweeping.ts'
import { Uploads } from './registry/uploads.ts'
import { openStore } from './store.ts'

const HANDLERS_MILLISECONDS_MAX = 5_000

export type RunningServer = {
  /** Where it listens, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly credential: FirstCredential
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
  const starting = new Starting()
  try {
    return await assemble(config, log, onLost, starting)
  } catch (error) {
    await starting.undo()
    throw error
  }
}

async function assemble(
  config: Config,
  log: Log,
  onLost: (error: Error) => void,
  starting: Starting,
): Promise<RunningServer> {
  await demandFree(config.listen)
  const dataFolder = resolve(config.dataFolder)
  await makeDataFolder(dataFolder)
  const { connection } = await database(config, dataFolder, log, onLost, starting)
  const db = new Database({
    connection,
    connectionsMax: config.databaseConnectionsMax,
    onIdleError: (error) => log.warn({ err: error }, 'a database connection broke'),
  })
  starting.did(() => db.close())
  await reachDatabase(db)
  for (const name of await migrate(db)) log.info({ migration: name }, 'schema migrated')

  const opened = await openStore(config, dataFolder)
  const { store } = opened
  starting.did(() => opened.close())
  const credential = await firstCredential(db, dataFolder, config.adminPassword)
  const visibility = config.defaultVisibility
  const uploads = new Uploads(db, store, {
    lifetimeSeconds: config.uploadLifetimeSeconds,
    blobBytesMax: config.blobBytesMax,
    visibility,
  })
  const metrics = createMetrics()
  const running = new Running()
  const app = createApp({
    routes: allRoutes({
      uploads,
      blobs: new Blobs(db, store, { visibility, graceSeconds: config.gcGraceSeconds }),
      manifests: new Manifests(db, visibility),
      listings: new Listings(db),
      operations: {
        metrics: () => metrics.render(),
        async check() {
          await Promise.all([db.query('select 1 as one'), store.check()])
        },
      },
    }),
    authenticator: new AdminAuthenticator(credential.secretSha256, 'Rookery'),
    observe(observation) {
      metrics.observe(observation)
      const { change, ...fields } = observation
      log[change ? 'info' : 'debug'](fields, 'request')
    },
    reportError: (error, requestId) => log.error({ err: error, requestId }, 'a request failed'),
    running,
    addressOf: (ctx) => clientAddress(ctx.req, config.trustedProxies),
  })
  const sweeping = startSweeping(new Garbage(db, store, config.gcGraceSeconds), {
    everySeconds: config.gcIntervalSeconds,
    onSwept: (swept) => reportSweep(swept, log),
    onError: (error) => log.error({ err: error }, 'sweeping garbage failed'),
  })
  starting.did(() => sweeping.stop())
  const server: Server = createHttpServer(app.callback())
  const connections = new Connections(server)
  const url = await listen(server, config.listen)
  starting.did(async () => {
    await connections.drain(config.drainSeconds * 1000)
    // Handlers whose connection was cut still give back what they hold in the database.
    await running.idle(HANDLERS_MILLISECONDS_MAX)
  })
  log.info({ url, dataFolder, blobs: opened.name }, 'listening')
  return { url, credential, close: () => starting.undo() }
}

function reportSweep({ failures, checked: _checked, ...counts }: Swept, log: Log): void {
  const [first] = failures
  if (first !== undefined) {
    log.error({ err: first, failures: failures.length }, 'bytes could not be removed; trying again')
  }
  if (counts.uploads + counts.blobs + counts.removals > 0) log.info(counts, 'garbage swept')
}

async function makeDataFolder(folder: string): Promise<void> {
  try {
    // Others may pass through: the embedded Postgres may run as another user.
    await mkdir(folder, { recursive: true, mode: 0o755 })
  } catch (cause) {
    throw new StartError(
      `cannot make the data folder ${folder} (${codeOf(cause)}): set ROOKERY_DATA_DIR to a folder that this user may write`,
      { cause },
    )
  }
}

async function database(
  config: Config,
  dataFolder: string,
  log: Log,
  onLost: (error: Error) => void,
  starting: Starting,
): Promise<{ connection: string | EmbeddedPostgres['connection'] }> {
  if (config.databaseUrl !== undefined) return { connection: config.databaseUrl }
  const embedded = await startEmbeddedPostgres({
    folder: join(dataFolder, 'postgres'),
    log,
    onLost,
  })
  starting.did(() => embedded.stop())
  return embedded
}

async function reachDatabase(db: Database): Promise<void> {
  try {
    await checkPostgres(db)
  } catch (cause) {
    throw new StartError(`cannot use the database: ${reasonOf(cause)}`, { cause })
  }
}

/** The innermost reason: what the operating system or Postgres said. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause !== undefined) return reasonOf(error.cause)
  return error.message || codeOf(error)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'
}
