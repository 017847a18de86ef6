import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { followed, newest, pushKernel, putRollout } from '../deployments/rolling.ts'
import { openSweeper, type Sweeper } from '../garbage/sweeper.ts'
import { pushContainer } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { DeliveryFixture } from '../webhooks/delivery-fixture.ts'
import { Receivers, respondWith } from '../webhooks/receiver.ts'

/** How far ahead the clock of the database was. */
const AHEAD = '2 days'

let registry: TestRegistry
let sweeper: Sweeper
let fixture: DeliveryFixture
const receivers = new Receivers()

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
  sweeper = await openSweeper(registry)
  fixture = await DeliveryFixture.open()
})

afterEach(async () => {
  await fixture.clear()
  await receivers.close()
})

afterAll(async () => {
  await fixture.close()
  await sweeper.close()
  await registry.close()
})

/** A leased upload whose writer is dead, or was renewed by a clock that was ahead. */
async function leaseAhead(location: string): Promise<void> {
  await sweeper.client.query(
    `update uploads
        set lease = gen_random_uuid(),
            writer = null,
            lease_until = now() + $2::interval,
            expires_at = expires_at + $2::interval
      where id = $1`,
    [location.split('/').at(-1), AHEAD],
  )
}

async function failingWebhook() {
  const receiver = await receivers.start(respondWith(500))
  const webhook = await fixture.webhook({ url: receiver.url })
  const events = []
  for (let index = 0; index < 20; index += 1) events.push(await fixture.event([webhook]))
  return { receiver, webhook, events }
}

/** The columns that say "not before" or "held until". Each has a test: times too far ahead do not count. */
const HELD_UNTIL: Record<string, () => Promise<void>> = {
  'uploads.lease_until': async () => {
    const location = await startUpload(registry, newRepository())
    expect((await send(registry, 'PATCH', location, 'first ')).status).toBe(202)
    await leaseAhead(location)
    expect((await send(registry, 'PATCH', location, 'second')).status).toBe(202)
    await leaseAhead(location)
    const closing = `${location}?digest=${digestOf('first second')}`
    expect((await send(registry, 'PUT', closing)).status).toBe(201)
    const left = await startUpload(registry, newRepository())
    await leaseAhead(left)
    const id = left.split('/').at(-1)
    await sweeper.client.query('update uploads set expires_at = now() where id = $1', [id])
    await sweeper.sweepAll()
    expect((await sweeper.client.query('select id from uploads')).rows).toEqual([])
  },
  'deletion_queue.due_at': async () => {
    const { digest } = await pushBlob(registry, newRepository(), randomBytes(100))
    await sweeper.garbage(0).sweep()
    const key = digest.replace('sha256:', '')
    await pushBlob(registry, newRepository(), randomBytes(100))
    await sweeper.client.query(
      `insert into deletion_queue (storage_key, due_at)
       select storage_key, now() + $1::interval
         from blobs`,
      [AHEAD],
    )
    await sweeper.client.query('delete from repository_blobs')
    await sweeper.client.query('delete from blobs')
    await sweeper.sweepAll()
    expect((await registry.storedObjects()).filter(({ key: one }) => one?.includes(key))).toEqual(
      [],
    )
    expect((await sweeper.client.query('select id from deletion_queue')).rows).toEqual([])
    expect(await registry.storedObjects()).toEqual([])
  },
  'webhook_health.open_until': async () => {
    const { receiver, webhook, events } = await failingWebhook()
    fixture.startWorker()
    await expect.poll(async () => (await fixture.health(webhook))?.failures).toBe(5)
    receiver.respond = respondWith(204)
    await fixture.client.query(
      'update webhook_health set open_until = now() + $2::interval where webhook_id = $1',
      [webhook.id, AHEAD],
    )
    for (const event of events)
      await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  },
  'deliveries.due_at': async () => {
    const { receiver, webhook, events } = await failingWebhook()
    receiver.respond = respondWith(204)
    await fixture.client.query(
      `update deliveries
          set due_at = now() + $2::interval,
              lease = case when event_position % 2 = 0 then gen_random_uuid() end
        where webhook_id = $1`,
      [webhook.id, AHEAD],
    )
    fixture.startWorker()
    for (const event of events)
      await fixture.waitForDelivery(webhook, event, { state: 'delivered' })
  },
  'signing_keys.active_at': async () => {
    await sweeper.client.query('update signing_keys set active_at = now() + $1::interval', [AHEAD])
    // A running server reads the keys every two seconds.
    await new Promise((resolve) => setTimeout(resolve, 3000))
    expect((await registry.request('/token?service=x')).status).toBe(200)
    const { rows } = await sweeper.client.query('select kid from signing_keys')
    expect(rows).toHaveLength(1)
  },
  'deployments.wake_at': async () => {
    const { repository, becomes, say } = await followed(registry, 2)
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted', 'b granted')
    await sweeper.client.query('update deployments set wake_at = now() + $1::interval', [AHEAD])
    await say('a', 'failed')
    await becomes('failed', 'a failed', 'b granted')
    await sweeper.client.query('update deployments set wake_at = now() + $1::interval', [AHEAD])
    await sweeper.client.query("update targets set state = 'overdue'")
    await expect
      .poll(async () => (await sweeper.client.query('select wake_at from deployments')).rows)
      .toEqual([{ wake_at: null }])
  },
  'targets.deadline_at': async () => {
    const { repository, becomes } = await followed(registry, 1)
    await putRollout(registry, repository, { canary: 0, batch: null, deadlineSeconds: 2 })
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted')
    await sweeper.client.query('update targets set deadline_at = now() + $1::interval', [AHEAD])
    await sweeper.client.query('update deployments set wake_at = now()')
    await expect
      .poll(async () => (await newest(registry, repository)).targets, { timeout: 15_000 })
      .toEqual(['a overdue'])
  },
  'targets.healthy_at': async () => {
    const { repository, becomes, say } = await followed(registry, 1)
    await pushKernel(registry, repository)
    await becomes('rolling', 'a granted')
    await say('a', 'healthy')
    await sweeper.client.query('update targets set healthy_at = now() + $1::interval', [AHEAD])
    await sweeper.client.query('update deployments set wake_at = now() where wake_at is not null')
    await becomes('succeeded', 'a healthy')
  },
  'unwraps.due_at': async () => {
    const image = await pushContainer(registry, newRepository(), 'live', [])
    await sweeper.client.query(
      `insert into unwraps (manifest_id, is_pending, due_at)
       select id, true, now() + $2::interval
         from manifests
        where digest = $1`,
      [image.headers.get('docker-content-digest'), AHEAD],
    )
    const left = async () => (await sweeper.client.query('select 1 from unwraps')).rows
    await waitUntil(async () => (await left()).length === 0)
  },
}

/** A later end does no harm: what it protects or keeps is kept as much longer as the clock was ahead. */
const KEPT_UNTIL = [
  'credentials.previous_until',
  'deletion_pauses.until',
  'enrolments.expires_at',
  'host_keys.ends_at',
  'hosts.expires_at',
  'refresh_tokens.ends_at',
  'refresh_tokens.expires_at',
  'revocations.expires_at',
  'sessions.ends_at',
  'signing_keys.gone_at',
  'signing_keys.retired_at',
  'uploads.expires_at',
  'used_assertions.expires_at',
  'used_identity_tokens.expires_at',
]

/** Dates that a user chose. */
const EXPIRY = ['credentials.expires_at', 'upload_urls.expires_at']

/** When something happened. A later time is displayed, or makes a grace period longer, and holds nothing back. */
const HAPPENED = [
  'audit.at',
  'blobs.created_at',
  'blobs.lost_at',
  'blobs.replaced_at',
  'blobs.touched_at',
  // A push may be a retry or a copy only for minutes around these: `record_build`.
  'builds.finished_at',
  'builds.recorded_at',
  'builds.started_at',
  'credentials.created_at',
  'credentials.revoked_at',
  'credentials.used_at',
  'deletion_queue.queued_at',
  'deliveries.created_at',
  'deliveries.finished_at',
  'deliveries.redelivered_at',
  'delivery_attempts.at',
  'deployments.created_at',
  'deployments.finished_at',
  'enrolments.created_at',
  'enrolments.used_at',
  'event_outbox.occurred_at',
  'events.occurred_at',
  'host_keys.added_at',
  'hosts.conflict_at',
  'hosts.created_at',
  'hosts.lost_at',
  'hosts.revoked_at',
  'hosts.seen_at',
  'installation.store_marked_at',
  'last_backup.finished_at',
  // An age below zero counts as zero.
  'last_backup.taken_at',
  'last_start.started_at',
  'layer_analyses.read_at',
  'layer_pictures.made_at',
  // A start in the future counts as none: test/images/pictures.test.ts.
  'layer_pictures.started_at',
  'maintenance.started_at',
  'maintenance.updated_at',
  'manifest_reads.read_at',
  'manifests.pushed_at',
  // A check in the future counts as none: test/opam-index.
  'opam_imports.checked_at',
  'opam_imports.imported_at',
  'refresh_tokens.created_at',
  'refresh_tokens.used_at',
  'repositories.created_at',
  'repositories.deleted_at',
  'repository_blobs.added_at',
  'repository_blobs.mounted_at',
  'revocations.revoked_at',
  'rollouts.updated_at',
  'runs.from_at',
  'runs.to_at',
  'sessions.created_at',
  'sessions.seen_at',
  'signing_keys.created_at',
  'tag_history.moved_at',
  'tags.moved_at',
  'targets.changed_at',
  'targets.ended_at',
  'targets.granted_at',
  'targets.settled_at',
  'trust_policies.created_at',
  'unit_logs.at',
  'units.granted_at',
  'units.registered_at',
  'units.reported_at',
  'units.since',
  'upload_urls.created_at',
  'upload_urls.used_at',
  'uploads.created_at',
  'webhook_health.failed_at',
  'webhook_health.failing_since',
  'webhook_health.succeeded_at',
  'webhooks.created_at',
  'webhooks.removed_at',
  'webhooks.updated_at',
]

describe('when the clock of the database was ahead for a moment', () => {
  it('every column with a time is listed: it holds something back, keeps something, or says when', async () => {
    const { rows } = await sweeper.client.query<{ name: string }>(
      `select table_name || '.' || column_name as name
         from information_schema.columns
        where table_schema = 'public'
          and data_type like 'timestamp%'
          and table_name <> 'schema_migrations'`,
    )
    const listed = [...Object.keys(HELD_UNTIL), ...KEPT_UNTIL, ...EXPIRY, ...HAPPENED]
    expect(rows.map(({ name }) => name).sort()).toEqual(listed.sort())
  })

  it.each(Object.entries(HELD_UNTIL))('%s holds nothing back', async (_column, test) => {
    await test()
  })
})
