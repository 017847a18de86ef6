import { startRepeating } from '../async/loop.ts'
import type { RegistryIssuer } from '../auth/access-tokens.ts'
import { IdentityTokenMinter } from '../auth/identity-token-minter.ts'
import type { MasterKey } from '../auth/master-key.ts'
import type { KeyRing } from '../auth/signing-keys.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../db/database.ts'
import { listenForEvents } from '../db/events/notifications.ts'
import { Feed } from '../feed/feed.ts'
import { GuardedClient } from '../outgoing/client.ts'
import { pruneEvents } from '../sequencer/retention.ts'
import { Sequencer } from '../sequencer/sequencer.ts'
import { DeliveryWorker } from '../webhooks/delivery/delivery-worker.ts'
import { listBlockedWebhooks } from '../webhooks/delivery/reachability.ts'
import { WebhookDeliveries } from '../webhooks/management/deliveries.ts'
import { Webhooks } from '../webhooks/management/webhooks.ts'
import { WebhookCache } from '../webhooks/webhook-cache.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { VERSION } from './version.ts'

/** What tells others what happened. */
export type EventPipeline = {
  readonly sequencer: Sequencer
  readonly webhooks: Webhooks
  readonly webhookDeliveries: WebhookDeliveries
  readonly feed: Feed
  /** To be called when it is known where the registry is reached. */
  start(): void
}

export type EventPipelineDeps = {
  readonly db: Database
  readonly issuer: RegistryIssuer
  readonly keys: KeyRing
  readonly masterKey: MasterKey
  readonly metrics: Metrics
  /** Host and port that clients put before a repository's name. */
  registry(): string
}

const RETENTION_SECONDS = 3600
/** A receiver has so long to answer. */
const REQUEST_MILLISECONDS_MAX = 15_000
// Shorter than what most servers keep, so that they seldom close first.
const KEEP_ALIVE_MILLISECONDS = 4_000

/** Builds what tells others; `starting` learns how to stop it. */
export function buildEventPipeline(
  { db, issuer, keys, masterKey, metrics, registry }: EventPipelineDeps,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): EventPipeline {
  const endpoints = new WebhookCache(db, masterKey)
  const client = createWebhookClient(config)
  cleanup.defer(() => client.close())
  const deliverer = new DeliveryWorker({
    db,
    webhooks: endpoints,
    client,
    identityTokens: new IdentityTokenMinter(keys, issuer),
    userAgent: `Rookery/${VERSION}`,
    onOutcome: (outcome) => metrics.attempted(outcome),
    onDisabled: (webhook, detail) => log.warn({ webhook, detail }, 'a webhook was disabled'),
    onCommitted: () => dispatcher.poke(),
    onError: (error) => log.error({ err: error }, 'deliveries wait; trying again'),
  })
  const feed = new Feed({
    db,
    flush: () => dispatcher.flush(),
    onError: (error) => log.error({ err: error }, 'the feed waits; trying again'),
  })
  const dispatcher = new Sequencer({
    db,
    endpoints,
    source: issuer.url,
    registry,
    onSequenced(events, webhookIds) {
      metrics.sequenced(events)
      deliverer.poke(webhookIds)
      feed.poke()
    },
    onError: (error) => log.error({ err: error }, 'events wait; trying again'),
  })
  cleanup.defer(() => feed.stop())
  cleanup.defer(() => deliverer.stop())
  cleanup.defer(() => dispatcher.stop())
  return {
    sequencer: dispatcher,
    feed,
    webhooks: new Webhooks({
      db,
      masterKey,
      issuer,
      client,
      onCommitted: () => dispatcher.poke(),
    }),
    webhookDeliveries: new WebhookDeliveries({ db, onDue: () => deliverer.poll() }),
    start() {
      dispatcher.start()
      deliverer.start()
      feed.start()
      const listening = listenForEvents(
        db,
        () => feed.poke(),
        (error) => log.warn({ err: error }, 'news of events comes late; connecting again'),
      )
      cleanup.defer(() => listening.stop())
      const forgetting = startRepeating(
        RETENTION_SECONDS,
        async (goOn) => {
          await pruneEvents(db, config.eventDays, goOn)
        },
        (error) => log.error({ err: error }, 'old events could not be forgotten; trying again'),
      )
      cleanup.defer(() => forgetting.stop())
      void reportBlocked(endpoints, client, log).catch((error) => {
        log.warn({ err: error }, 'it could not be seen which webhooks can be reached')
      })
    },
  }
}

/** Says which webhooks the network guard would not let out, so that nobody wonders. */
async function reportBlocked(
  endpoints: WebhookCache,
  client: GuardedClient,
  log: Log,
): Promise<void> {
  for (const { webhook, problem } of await listBlockedWebhooks(endpoints, client)) {
    log.warn({ webhook, problem }, 'a webhook cannot be reached')
  }
}

/** What knows which addresses webhooks may have. */
export function createWebhookClient({ webhookAllowNetworks }: Config): GuardedClient {
  return new GuardedClient({
    allowed: webhookAllowNetworks,
    hint: 'ROOKERY_WEBHOOK_ALLOW_NETWORKS allows networks',
    keepAliveMilliseconds: KEEP_ALIVE_MILLISECONDS,
    requestMilliseconds: REQUEST_MILLISECONDS_MAX,
  })
}

const LOOPBACK: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '[::]': '[::1]' }

/** What clients put before a repository's name: where it is reached, or where it listens. */
export function registryName({ publicUrl }: Config, listensAt: string | undefined): string {
  const url = new URL(publicUrl ?? listensAt ?? 'http://localhost')
  return publicUrl === undefined
    ? url.host.replace(url.hostname, LOOPBACK[url.hostname] ?? url.hostname)
    : url.host
}
