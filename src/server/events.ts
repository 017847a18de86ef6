import { Loop } from '../async/loop.ts'
import type { RegistryIssuer } from '../auth/access-tokens.ts'
import { IdentityTokenMinter } from '../auth/identity-token-minter.ts'
import type { MasterKey } from '../auth/master-key.ts'
import type { KeyRing } from '../auth/signing-keys.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../db/database.ts'
import { listenForNotifications } from '../db/events/notifications.ts'
import { describeDatabaseFault } from '../db/faults.ts'
import type { ProcessLock } from '../db/process-lock.ts'
import type { DeploymentSignals } from '../deployments/signals.ts'
import { FeedCursors } from '../events/cursor.ts'
import { Feed } from '../feed/feed.ts'
import { GuardedClient } from '../outgoing/client.ts'
import { pruneEvents } from '../sequencer/retention.ts'
import { Sequencer } from '../sequencer/sequencer.ts'
import { DeliveryWorker } from '../webhooks/delivery/delivery-worker.ts'
import { listBlockedWebhooks } from '../webhooks/delivery/reachability.ts'
import { WebhookDeliveries } from '../webhooks/management/deliveries.ts'
import { Webhooks } from '../webhooks/management/webhooks.ts'
import { openRecipients } from '../webhooks/recipients.ts'
import { WebhookCache } from '../webhooks/webhook-cache.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { VERSION } from './version.ts'

/** From committed events to webhooks and connected clients. */
export type EventPipeline = {
  readonly sequencer: Sequencer
  readonly webhooks: Webhooks
  readonly webhookDeliveries: WebhookDeliveries
  readonly feed: Feed
  readonly cursors: FeedCursors
  /** Starts the background work. Called when the server listens, because events name its address. */
  start(): void
}

export type EventPipelineDeps = {
  readonly db: Database
  readonly processLock: ProcessLock
  readonly issuer: RegistryIssuer
  readonly keys: KeyRing
  readonly masterKey: MasterKey
  readonly metrics: Metrics
  readonly signals: DeploymentSignals
  /** Host and port that clients put before a repository's name. */
  registry(): string
}

const RETENTION_SECONDS = 3600
/** How long a receiver may take to answer. */
const REQUEST_MILLISECONDS_MAX = 15_000
// Shorter than most servers keep a connection, so that they seldom close first.
const KEEP_ALIVE_MILLISECONDS = 4_000

/**
 * Builds the pipeline: the sequencer gives committed events their position, then the delivery worker
 * sends them to webhooks and the feed to connected clients.
 */
export function buildEventPipeline(
  { db, processLock, issuer, keys, masterKey, metrics, signals, registry }: EventPipelineDeps,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): EventPipeline {
  const logError = (message: string) => (error: unknown) => log.error({ err: error }, message)
  const cache = new WebhookCache(db, masterKey)
  const clients = createWebhookClients(config)
  const audiences = config.webhookAudiences
  cleanup.defer(() => clients.close())
  const sequencer = new Sequencer({
    db,
    source: issuer.url,
    registry,
    recipients: (tx) => openRecipients(cache, tx),
    onError: logError('sequencing events failed, retrying'),
  })
  const cursors = feedCursors(masterKey)
  const feed = new Feed({
    db,
    flush: () => sequencer.flush(),
    onError: logError('reading events for the feed failed, retrying'),
  })
  const worker = new DeliveryWorker({
    db,
    webhooks: cache,
    ...clients,
    audiences,
    identityTokens: new IdentityTokenMinter(keys, issuer),
    userAgent: `Rookery/${VERSION}`,
    onOutcome: (outcome) => metrics.attempted(outcome),
    onDisabled: (webhook, detail) => log.warn({ webhook, detail }, 'a webhook was disabled'),
    onCommitted: () => sequencer.poke(),
    onError: logError('delivering events failed, retrying'),
  })
  sequencer.onSequenced((events) => metrics.sequenced(events))
  sequencer.onSequenced((_, webhookIds) => worker.poke(webhookIds))
  sequencer.onSequenced(() => feed.poke())
  cleanup.defer(() => feed.stop())
  cleanup.defer(() => worker.stop())
  cleanup.defer(() => sequencer.stop())
  return {
    sequencer,
    feed,
    cursors,
    webhooks: new Webhooks({
      ...{ db, masterKey, issuer, audiences, ...clients },
      onCommitted: () => sequencer.poke(),
    }),
    webhookDeliveries: new WebhookDeliveries({ db, cursors, onDue: () => worker.poll() }),
    start() {
      sequencer.start()
      worker.start()
      feed.start()
      const listener = listenForNotifications(db, processLock, {
        onEvents: () => feed.poke(),
        onDeployments: (notice) => signals.emit(notice),
        onError: (error) =>
          log.warn(
            { reason: describeDatabaseFault(error) },
            'LISTEN connection lost, reconnecting',
          ),
      })
      cleanup.defer(() => listener.stop())
      if (!config.readOnly) startPruning(db, config.eventDays, cleanup, logError)
      void logBlockedWebhooks(cache, clients.client, log).catch((error) => {
        log.warn({ err: error }, 'webhook reachability check failed')
      })
    },
  }
}

function startPruning(
  db: Database,
  days: number,
  cleanup: CleanupStack,
  logError: (message: string) => (error: unknown) => void,
): void {
  const pruning = new Loop({
    everySeconds: RETENTION_SECONDS,
    work: async (signal) => void (await pruneEvents(db, days, signal)),
    onError: logError('pruning old events failed, retrying'),
  }).start()
  cleanup.defer(() => pruning.stop())
}

/** Logs each webhook whose URL the network guard refuses. */
async function logBlockedWebhooks(
  cache: WebhookCache,
  client: GuardedClient,
  log: Log,
): Promise<void> {
  for (const { webhook, problem } of await listBlockedWebhooks(cache, client)) {
    log.warn({ webhook, problem }, 'a webhook cannot be reached')
  }
}

/** Returns the cursors of the feed, which all replicas encrypt with the same key. */
export function feedCursors(masterKey: MasterKey): FeedCursors {
  return new FeedCursors(masterKey.derive('cursors of the feed'))
}

/** The HTTP clients for webhooks: `publicClient` reaches public addresses only, `client` also the allowed networks. */
export type WebhookClients = {
  readonly client: GuardedClient
  readonly publicClient: GuardedClient
  /** Aborts all requests. */
  close(): void
}

/** Creates the HTTP clients for webhooks, which know the networks that they may be in. */
export function createWebhookClients({ webhookAllowNetworks }: Config): WebhookClients {
  const open = (allowed: Config['webhookAllowNetworks'], hint: string) =>
    new GuardedClient({
      ...{ allowed, hint },
      keepAliveMilliseconds: KEEP_ALIVE_MILLISECONDS,
      requestMilliseconds: REQUEST_MILLISECONDS_MAX,
    })
  const client = open(webhookAllowNetworks, 'ROOKERY_WEBHOOK_ALLOW_NETWORKS allows networks')
  const publicClient = open([], 'only webhooks of administrators send a body there')
  return {
    client,
    publicClient,
    close() {
      client.close()
      publicClient.close()
    },
  }
}
