import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { expect } from 'vitest'
import { IdentityTokenMinter } from '../../src/auth/identity-token-minter.ts'
import { MasterKey } from '../../src/auth/master-key.ts'
import { KeyRing } from '../../src/auth/signing-keys.ts'
import { Database } from '../../src/db/database.ts'
import { renderCloudEvent } from '../../src/events/cloud-event.ts'
import type { EventType } from '../../src/events/event.ts'
import { GuardedClient } from '../../src/outgoing/client.ts'
import {
  DeliveryWorker,
  type DeliveryWorkerOptions,
} from '../../src/webhooks/delivery/delivery-worker.ts'
import { newSigningSecret } from '../../src/webhooks/signature.ts'
import { WebhookCache } from '../../src/webhooks/webhook-cache.ts'
import { createTestDatabase } from '../support/database.ts'
import { registryEvent } from './registry-events.ts'

/** The columns of a webhook. By default it receives image events and belongs to the operator. */
export type TestWebhookOptions = {
  readonly url: string
  readonly format?: string
  readonly body?: unknown
  readonly signatures?: readonly string[]
  readonly types?: readonly EventType[]
  readonly state?: 'active' | 'paused' | 'disabled'
  readonly headers?: Record<string, string>
  readonly oidcAudience?: string
  readonly maxAgeSeconds?: number
  readonly coalesceTags?: boolean
  readonly ownerOrigin?: string
  readonly ownerGrants?: unknown
  readonly secrets?: Record<string, unknown>
  /** Encrypted with this key instead of the registry's. */
  readonly masterKey?: MasterKey
}

export type TestEventOptions = {
  readonly type?: EventType
  readonly repository?: string | null
  readonly visibility?: 'public' | 'private'
  readonly tag?: string | null
  readonly occurredAt?: Date
}

export type StoredDelivery = {
  readonly state: string
  readonly roundAttempts: number
  readonly attempts: number
  readonly lease: string | null
  /** Seconds from now. */
  readonly dueIn: number
  readonly finished: boolean
}

export type StoredAttempt = {
  readonly attempt: number
  readonly milliseconds: number
  readonly status: number | null
  readonly error: string | null
  readonly requestHeaders: Record<string, string>
  readonly responseHeaders: Record<string, string> | null
  readonly responseBody: string | null
}

export type TestWebhook = { readonly id: number; readonly name: string; readonly secret: string }
export type TestEvent = { readonly position: number; readonly id: string; readonly body: string }

/** Shorter than in a registry, so that tests do not wait. */
const POLL_MILLISECONDS = 50
// A request that is cut off early is sent twice.
const REQUEST_MILLISECONDS = 20_000

/** A database with webhooks, events and deliveries, and delivery workers on it, without a registry. */
export class DeliveryFixture {
  readonly db: Database
  readonly client: pg.Client
  readonly databaseUrl: string
  /** The errors and outcomes that workers reported, and the webhooks that they disabled. */
  readonly errors: unknown[] = []
  readonly outcomes: string[] = []
  readonly disabled: string[] = []
  readonly #masterKey = new MasterKey(Buffer.alloc(32, 7))
  readonly #dropDatabase: () => Promise<void>
  readonly #workers: DeliveryWorker[] = []
  readonly #clients: GuardedClient[] = []
  #keys: KeyRing | undefined
  #names = 0

  private constructor(url: string, client: pg.Client, dropDatabase: () => Promise<void>) {
    this.databaseUrl = url
    this.client = client
    this.#dropDatabase = dropDatabase
    this.db = this.#open()
  }

  static async open(): Promise<DeliveryFixture> {
    const database = await createTestDatabase()
    const client = new pg.Client(database.url)
    await client.connect()
    const fixture = new DeliveryFixture(database.url, client, () => database.drop())
    fixture.#keys = new KeyRing(fixture.db, fixture.#masterKey)
    await fixture.#keys.open()
    return fixture
  }

  #open(): Database {
    return new Database({ connection: this.databaseUrl, connectionsMax: 5, onIdleError() {} })
  }

  /** Creates the worker of a process. Its defaults are those of a registry, with shorter times. */
  worker(options: Partial<DeliveryWorkerOptions> = {}): DeliveryWorker {
    if (this.#keys === undefined) throw new Error('the fixture is not open')
    const issuer = { url: 'https://registry.example.org', service: 'registry.example.org' }
    const worker = new DeliveryWorker({
      db: this.db,
      webhooks: new WebhookCache(this.db, this.#masterKey),
      client: this.outgoingClient(),
      publicClient: this.outgoingClient(REQUEST_MILLISECONDS, []),
      identityTokens: new IdentityTokenMinter(this.#keys, issuer),
      audiences: [],
      userAgent: 'Rookery/test',
      pollMilliseconds: POLL_MILLISECONDS,
      retrySeconds: [0, 0.05, 0.05],
      stopMilliseconds: 200,
      onOutcome: (outcome) => this.outcomes.push(outcome),
      onDisabled: (name, detail) => this.disabled.push(`${name}: ${detail}`),
      onCommitted() {},
      onError: (error) => this.errors.push(error),
      ...options,
    })
    this.#workers.push(worker)
    return worker
  }

  /** Creates a client that may reach receivers on this machine. */
  outgoingClient(
    requestMilliseconds = REQUEST_MILLISECONDS,
    allowed: readonly string[] = ['127.0.0.1'],
  ): GuardedClient {
    const client = new GuardedClient({
      allowed,
      keepAliveMilliseconds: 1_000,
      requestMilliseconds,
    })
    this.#clients.push(client)
    return client
  }

  /** Creates and starts a worker. */
  startWorker(options: Partial<DeliveryWorkerOptions> = {}): DeliveryWorker {
    const worker = this.worker(options)
    worker.start()
    return worker
  }

  async webhook(columns: TestWebhookOptions): Promise<TestWebhook> {
    this.#names += 1
    const name = `hook-${this.#names}`
    const secret = newSigningSecret()
    const secrets = {
      signing: [{ secret, until: null }],
      ed25519: null,
      authorization: null,
      webhookSecret: null,
      ...columns.secrets,
    }
    const jwe = await (columns.masterKey ?? this.#masterKey).encrypt(JSON.stringify(secrets))
    const { rows } = await this.client.query<{ id: string }>(
      `insert into webhooks (name, url, repositories, types, format, body, signatures, oidc_audience,
                             secrets_jwe, headers, max_age_seconds, coalesce_tags, state, owner_name,
                             owner_origin, owner_grants)
       values ($1, $2, '{**}', $3, $4, $14, $5, $6, $7, $8, $9, $10, $11, 'somebody', $12, $13)
       returning id`,
      [
        name,
        columns.url,
        columns.types ?? ['image.pushed', 'image.tag.updated', 'image.tag.deleted'],
        columns.format ?? 'cloudevents',
        columns.signatures ?? [],
        columns.oidcAudience ?? null,
        jwe,
        columns.headers ?? {},
        columns.maxAgeSeconds ?? null,
        columns.coalesceTags ?? false,
        columns.state ?? 'active',
        columns.ownerOrigin ?? null,
        columns.ownerGrants === undefined ? null : JSON.stringify(columns.ownerGrants),
        columns.body === undefined ? null : JSON.stringify(columns.body),
      ],
    )
    await this.incrementChangeCount()
    return { id: Number(rows[0]?.id), name, secret }
  }

  /** Invalidates the webhook caches of the workers. */
  async incrementChangeCount(): Promise<void> {
    await this.client.query('update webhook_changes set count = count + 1')
  }

  /** Inserts an event, with a delivery to each of these webhooks. */
  async event(
    webhooks: readonly TestWebhook[],
    columns: TestEventOptions = {},
    dueInSeconds = 0,
  ): Promise<TestEvent> {
    const { repository = 'builds/hello', tag = 'live', type = 'image.tag.updated' } = columns
    const occurredAt = columns.occurredAt ?? new Date()
    const id = randomUUID()
    const { rows } = await this.client.query<{ position: number }>(
      'update feed set position = position + 1 returning position::int',
    )
    const position = rows[0]?.position ?? 0
    const body = bodyOf(id, position, columns)
    await this.client.query(
      `with repository as (
         insert into repositories as r (name, visibility)
         select $1, $2
          where $1::text is not null
             on conflict (name) do update set visibility = excluded.visibility
         returning id
       )
       insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
       values ($3, $4, $5, (select id from repository), $6, $7, $8)`,
      [repository, columns.visibility ?? 'private', position, id, type, tag, occurredAt, body],
    )
    await this.client.query(
      `insert into deliveries (webhook_id, event_position, due_at)
       select unnest($1::bigint[]), $2, now() + make_interval(secs => $3)`,
      [webhooks.map(({ id }) => id), position, dueInSeconds],
    )
    return { position, id, body }
  }

  async delivery(webhook: TestWebhook, event: TestEvent): Promise<StoredDelivery> {
    const { rows } = await this.client.query<StoredDelivery>(
      `select state, round_attempts as "roundAttempts", attempts, lease, finished_at is not null as finished,
              extract(epoch from due_at - clock_timestamp())::float8 as "dueIn"
         from deliveries
        where webhook_id = $1
          and event_position = $2`,
      [webhook.id, event.position],
    )
    const row = rows[0]
    if (row === undefined) throw new Error('there is no such delivery')
    return row
  }

  /** Lists the attempts of a delivery, oldest first. */
  async attempts(webhook: TestWebhook, event: TestEvent): Promise<StoredAttempt[]> {
    const { rows } = await this.client.query<StoredAttempt>(
      `select attempt, milliseconds, status, error, request_headers as "requestHeaders",
              response_headers as "responseHeaders", response_body as "responseBody"
         from delivery_attempts
        where webhook_id = $1
          and event_position = $2
        order by attempt`,
      [webhook.id, event.position],
    )
    return rows
  }

  async health(
    webhook: TestWebhook,
  ): Promise<{ failures: number; openFor: number | null; failing: boolean } | undefined> {
    const { rows } = await this.client.query(
      `select failures, failing_since is not null as failing,
              extract(epoch from open_until - clock_timestamp())::float8 as "openFor"
         from webhook_health
        where webhook_id = $1`,
      [webhook.id],
    )
    return rows[0]
  }

  /** Lists the data of events that have no position yet. */
  async listOutbox(): Promise<Record<string, unknown>[]> {
    const { rows } = await this.client.query<{ data: string }>(
      'select data from event_outbox order by id',
    )
    return rows.map(({ data }) => JSON.parse(data))
  }

  /** Waits until a delivery has these columns. */
  async waitForDelivery(
    webhook: TestWebhook,
    event: TestEvent,
    columns: Partial<StoredDelivery>,
  ): Promise<void> {
    await expect
      .poll(() => this.delivery(webhook, event), { interval: 10, timeout: 20_000 })
      .toMatchObject(columns)
  }

  /** Stops all workers and deletes all rows. Expects that no worker reported an error. */
  async clear(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((one) => one.stop()))
    for (const client of this.#clients.splice(0)) client.close()
    await this.client.query(
      'truncate event_outbox, events, webhooks, repositories, credentials, trust_policies cascade',
    )
    await this.client.query('update feed set position = 0, pruned_through = 0')
    await this.incrementChangeCount()
    this.outcomes.length = 0
    this.disabled.length = 0
    expect(this.errors.splice(0)).toEqual([])
  }

  async close(): Promise<void> {
    await this.db.close()
    await this.client.end()
    await this.#dropDatabase()
  }
}

/** Renders an event as the registry does. */
function bodyOf(id: string, position: number, columns: TestEventOptions): string {
  const { type = 'image.tag.updated', repository = 'builds/hello', occurredAt } = columns
  return renderCloudEvent(registryEvent(type, columns), {
    id,
    source: 'https://registry.example.org',
    registry: 'registry.example.org',
    occurredAt: occurredAt ?? new Date(),
    sequence: repository === null ? null : position,
  })
}
