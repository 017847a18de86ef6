import type { MasterKey } from '../auth/master-key.ts'
import type { Config } from '../config/config.ts'
import { checkAnswer } from '../db/database.ts'
import type { DeploymentActions } from '../deployments/actions.ts'
import { Rollouts } from '../deployments/rollout-management.ts'
import type { DeploymentSignals } from '../deployments/signals.ts'
import { DeploymentWatch } from '../deployments/watch.ts'
import { clientAddress, clientBaseUrl, publicBaseUrl } from '../http/addresses.ts'
import { createApp } from '../http/app.ts'
import { createHttpServer } from '../http/http-server.ts'
import { InFlightRequests } from '../http/in-flight.ts'
import { OpenConnections, type OpenConnectionsOptions } from '../http/open-connections.ts'
import { PageCursors } from '../http/pages.ts'
import { askWithin, QuestionBudget } from '../http/question-budget.ts'
import { responseHeaders } from '../http/response-headers.ts'
import type { RouteContext } from '../http/route.ts'
import { type AuthServices, allRoutes } from '../http/routes.ts'
import { StreamLimit } from '../http/stream-limit.ts'
import { clientNetwork, unmapAddress } from '../networks/networks.ts'
import { translateStoreError } from '../registry/store-errors.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Limits } from './connection-limits.ts'
import type { EventPipeline } from './events.ts'
import type { HostServices } from './hosts.ts'
import { listen } from './listen.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Readiness } from './readiness.ts'
import type { RegistryOperations } from './registry.ts'
import type { RegistryAddress } from './registry-address.ts'
import { idFields, logRequest } from './request-log.ts'
import type { Stores } from './stores.ts'
import { VERSION } from './version.ts'
import type { Peers } from './workers/peers.ts'
import { SharedCounts } from './workers/shared-counts.ts'

/** Everything that the routes call. */
export type HttpDeps = {
  readonly stores: Stores
  readonly auth: AuthServices & { readonly masterKey: MasterKey }
  readonly registry: RegistryOperations
  readonly events: EventPipeline
  readonly hosts: HostServices
  readonly metrics: Metrics
  readonly signals: DeploymentSignals
  readonly actions: DeploymentActions
  readonly address: RegistryAddress
  readonly limits: Limits
  readonly peers: Peers
  readonly readiness: Readiness
}

// For handlers whose connection was closed: they still release their rows in the database.
const HANDLERS_MILLISECONDS_MAX = 5_000

const UNTRUSTED_PROXY =
  'a proxy that is not trusted sends requests, whose clients share its address: set ROOKERY_TRUSTED_PROXIES to the address of the proxy, and ROOKERY_PUBLIC_URL to the URL of the registry'

/** Builds the app, and listens. Returns the URL. Throws StartError. */
export async function startHttp(
  deps: HttpDeps,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): Promise<string> {
  const { limits } = deps
  const inFlight = new InFlightRequests(limits.perClient)
  const feedConnections = new StreamLimit(config.feedClientsPerAddress, limits.waiting)
  deps.metrics.registerCount('feedClients', () => feedConnections.count)
  deps.metrics.registerCount('waitingHosts', () => deps.hosts.desired.waiting.count)
  const beyondAddressLimit: BeyondAddressLimit = async (ctx, work) => {
    inFlight.endOf(ctx.req)
    const count = connections.exempt(ctx.req.socket)
    try {
      return await work()
    } finally {
      count()
    }
  }
  const limited = { inFlight, feedConnections, beyondAddressLimit }
  const shared = new SharedCounts(deps.peers)
  cleanup.defer(() => shared.close())
  inFlight.elsewhere = shared.share('requests', () => inFlight.counted())
  feedConnections.elsewhere = shared.share('streams', () => feedConnections.counted())
  const server = createHttpServer(buildApp(deps, limited, config, log))
  const connections = new OpenConnections(server, {
    limits,
    clientOf: ({ remoteAddress = '' }) => {
      const address = unmapAddress(remoteAddress)
      return config.trustedProxies.has(address) ? undefined : clientNetwork(address)
    },
    onCut: cutReporter(deps.metrics, log),
    elsewhere: shared.share('connections', () => connections.counted()),
  })
  deps.metrics.registerCount('connections', () => connections.count)
  deps.readiness.onLeave = () => connections.retire()
  deps.metrics.registerCount('requestsInFlight', () => inFlight.count)
  deps.metrics.registerTransfer(() => connections.transferred)
  const url = await listen(server, config.listen)
  cleanup.defer(async () => {
    feedConnections.close()
    deps.hosts.desired.waiting.close()
    const idleMilliseconds = deps.readiness.idleSeconds * 1000
    await connections.drain(config.drainSeconds * 1000, idleMilliseconds)
    await inFlight.waitUntilIdle(HANDLERS_MILLISECONDS_MAX)
  })
  return url
}

const LIMIT_WARNING_MILLISECONDS = 60_000

/** Counts connections that were refused or closed, and warns about limits, at most once a minute. */
function cutReporter(metrics: Metrics, log: Log): OpenConnectionsOptions['onCut'] {
  let warnedAt = Number.NEGATIVE_INFINITY
  return (reason, client) => {
    metrics.cut(reason)
    if (reason !== 'client-limit' && reason !== 'total-limit') return
    if (performance.now() - warnedAt < LIMIT_WARNING_MILLISECONDS) return
    warnedAt = performance.now()
    log.warn(
      { client, reason },
      'connections are refused; if the client is a proxy, name it in ROOKERY_TRUSTED_PROXIES',
    )
  }
}

type BeyondAddressLimit = Parameters<typeof allRoutes>[0]['beyondAddressLimit']

/** The limits of requests. */
type Limited = {
  readonly inFlight: InFlightRequests
  readonly feedConnections: StreamLimit
  readonly beyondAddressLimit: BeyondAddressLimit
}

function buildApp(
  deps: HttpDeps,
  { inFlight, feedConnections, beyondAddressLimit }: Limited,
  config: Config,
  log: Log,
) {
  const { stores, auth, registry, events, hosts, metrics, signals, actions, address } = deps
  const { authenticator, sessions, audit, issuer, masterKey } = auth
  const budget = new QuestionBudget()
  budget.onSpent = (spent) => deps.peers.post('question-time', spent)
  deps.peers.onPost('question-time', (spent) => budget.countSpent(spent))
  const baseUrl = (ctx: RouteContext) =>
    publicBaseUrl(ctx.req, config.trustedProxies, config.publicUrl)
  const warnOnce = onlyOnce((proxy: string) => log.warn({ proxy }, UNTRUSTED_PROXY))
  const baseUrlOfClient = (ctx: RouteContext) =>
    clientBaseUrl(ctx.req, config.trustedProxies, config.publicUrl, () =>
      warnOnce(unmapAddress(ctx.req.socket.remoteAddress ?? '')),
    )
  return createApp({
    routes: allRoutes({
      ...registry,
      webhooks: events.webhooks,
      webhookDeliveries: events.webhookDeliveries,
      feed: {
        feed: events.feed,
        cursors: events.cursors,
        connections: feedConnections,
        registry: () => address.host,
      },
      rollouts: new Rollouts(stores.db),
      deployments: {
        watch: new DeploymentWatch(stores.db, signals),
        actions,
        connections: feedConnections,
        cursors: pageCursors(masterKey),
      },
      auth,
      ...hosts,
      beyondAddressLimit,
      publicBaseUrl: baseUrl,
      clientBaseUrl: baseUrlOfClient,
      pageCursors: pageCursors(masterKey),
      ask: askWithin(stores.questions, budget),
      version: VERSION,
      operations: {
        version: VERSION,
        metrics: async () => metrics.render(await deps.peers.ask('metrics')),
        async check() {
          if (deps.readiness.isLeaving) throw new Error('the server will stop')
          await Promise.all([checkAnswer(stores.db), stores.store.check()])
        },
      },
    }),
    authorization: {
      authenticator,
      sessions,
      audit,
      service: issuer.service,
      publicBaseUrl: baseUrlOfClient,
      onHostRequest: (hostId) => hosts.presence.seen(hostId),
      async assertRoom(bodyBytes) {
        try {
          await stores.reserve?.assertRoom(bodyBytes)
        } catch (error) {
          throw translateStoreError(error)
        }
      },
    },
    readOnly: config.readOnly,
    observe(observation) {
      metrics.observe(observation)
      logRequest(observation, log)
    },
    reportError: (error, ids) => log.error({ err: error, ...idFields(ids) }, 'a request failed'),
    inFlight,
    headers: responseHeaders(config.publicUrl),
    addressOf: (ctx) => clientAddress(ctx.req, config.trustedProxies, warnOnce),
  })
}

/** Returns the cursors of lists, which all replicas encrypt with the same key. */
export function pageCursors(masterKey: MasterKey): PageCursors {
  return new PageCursors(masterKey.derive('cursors of lists'))
}

/** Returns a function whose first call runs `work`; the other calls do nothing. */
function onlyOnce<T>(work: (about: T) => void): (about: T) => void {
  let isDone = false
  return (about) => {
    if (!isDone) work(about)
    isDone = true
  }
}
