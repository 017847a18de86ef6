import { startRepeating } from '../async/loop.ts'
import { IdentityTokens } from '../auth/identity-tokens.ts'
import type { MasterKey } from '../auth/master-key.ts'
import type { KeyRing } from '../auth/signing-keys.ts'
import type { Issuer } from '../auth/tokens.ts'
import type { Config } from '../config/config.ts'
import type { Database } from '../db/database.ts'
import { listenForEvents } from '../db/events/notifications.ts'
import { Feed } from '../feed/feed.ts'
import { GuardedClient } from '../outgoing/client.ts'
import { forgetOldEvents } from '../sequencer/retention.ts'
import { Dispatcher } from '../sequencer/sequencer.ts'
import { Deliverer } from '../webhooks/delivery/deliverer.ts'
import { listBlocked } from '../webhooks/delivery/reachability.ts'
import { WebhookDeliveries } from '../webhooks/management/deliveries.ts'
import { Webhooks } from '../webhooks/management/webhooks.ts'
import { Endpoints } from '../webhooks/webhook-cache.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { VERSION } from './version.ts'

/** What tells others what happened. */
export type Telling = {
  readonly dispatcher: Dispatcher
  readonly webhooks: Webhooks
  readonly webhookDeliveries: WebhookDeliveries
  readonly feed: Feed
  /** To be called when it is known where the registry is reached. */
  start(): void
}

export type TellingParts = {
  readonly db: Database
  readonly issuer: Issuer
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
export function openTelling(
  { db, issuer, keys, masterKey, metrics, registry }: TellingParts,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): Telling {
  const endpoints = new Endpoints(db, masterKey)
  const client = webhookClient(config)
  cleanup.defer(() => client.close())
  const deliverer = new Deliverer({
    db,
    endpoints,
    client,
    identityTokens: new IdentityTokens(keys, issuer),
    userAgent: `Rookery/${VERSION}`,
    onOutcome: (outcome) => metrics.attempted(outcome),
    onDisabled: (webhook, detail) => log.warn({ webhook, detail }, 'a webhook was disabled'),
    onCommitted: () => dispatcher.nudge(),
    onError: (error) => log.error({ err: error }, 'deliveries wait; trying again'),
  })
  const feed = new Feed({
    db,
    settle: () => dispatcher.settle(),
    onError: (error) => log.error({ err: error }, 'the feed waits; trying again'),
  })
  const dispatcher = new Dispatcher({
    db,
    endpoints,
    source: issuer.url,
    registry,
    onDispatched(events, webhookIds) {
      metrics.dispatched(events)
      deliverer.nudge(webhookIds)
      feed.nudge()
    },
    onError: (error) => log.error({ err: error }, 'events wait; trying again'),
  })
  cleanup.defer(() => feed.stop())
  cleanup.defer(() => deliverer.stop())
  cleanup.defer(() => dispatcher.stop())
  return {
    dispatcher,
    feed,
    webhooks: new Webhooks({
      db,
      masterKey,
      issuer,
      client,
      onCommitted: () => dispatcher.nudge(),
    }),
    webhookDeliveries: new WebhookDeliveries({ db, onDue: () => deliverer.look() }),
    start() {
      dispatcher.start()
      deliverer.start()
      feed.start()
      const listening = listenForEvents(
        db,
        () => feed.nudge(),
        (error) => log.warn({ err: error }, 'news of events comes late; connecting again'),
      )
      cleanup.defer(() => listening.stop())
      const forgetting = startRepeating(
        RETENTION_SECONDS,
        async (goOn) => {
          await forgetOldEvents(db, config.eventDays, goOn)
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
async function reportBlocked(endpoints: Endpoints, client: GuardedClient, log: Log): Promise<void> {
  for (const { webhook, problem } of await listBlocked(endpoints, client)) {
    log.warn({ webhook, problem }, 'a webhook cannot be reached')
  }
}

/** What knows which addresses webhooks may have. */
export function webhookClient({ webhookAllowNetworks }: Config): GuardedClient {
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
