import { AggregatorRegistry, Registry } from 'prom-client'
import { expect, it } from 'vitest'
import { createMetrics } from '../../src/server/metrics.ts'
import type { Watched } from '../../src/server/metrics-values.ts'
import { sampleOf } from './scrape.ts'

/** The values that every process reads from one database. */
const VALUES: Watched = {
  outboxEvents: 3,
  outboxSeconds: 5,
  pendingDeliveries: 7,
  deliverySeconds: 9,
  deliveryOverdueSeconds: 0,
  activeWebhooks: 2,
  pausedWebhooks: 1,
  disabledWebhooks: 0,
  failingWebhooks: 0,
  queuedDeletions: 0,
  rollingDeployments: 1,
  pausedDeployments: 0,
  rollingSeconds: 60,
  deploymentOverdueSeconds: 0,
  overdueTargets: 0,
  onlineHosts: 40,
  offlineHosts: 2,
  pendingHosts: 0,
  signingKeySince: 1_700_000_000,
  expiringCredentials: 4,
  backupAt: 1_700_000_000,
  backupBytes: 900,
  storage: {
    measuredAt: 1_700_000_000_000,
    blobs: 10,
    bytes: 1000,
    lost: 0,
    repositories: [{ name: 'mine/www', bytes: 600 }],
    otherBytes: 400,
  },
  disks: { data: { free: 50, size: 100 } },
  readAt: Date.now(),
}

/** A process that answered a request, with one connection. */
function worker(): Registry {
  const registry = new Registry()
  const metrics = createMetrics('1.2.3', registry)
  metrics.show(VALUES)
  metrics.observe({ method: 'GET', route: '/v2', status: 200, seconds: 0.1 })
  metrics.registerCount('connections', () => 1)
  return registry
}

it('two processes of one server add up what each of them counts, and no value that both read', async () => {
  const answers = await Promise.all([worker(), worker()].map((one) => one.getMetricsAsJSON()))
  const text = await AggregatorRegistry.aggregate(answers).metrics()
  const expected = {
    'rookery_http_requests_total{method="GET",route="/v2",status="200"}': 2,
    rookery_connections: 2,
    'rookery_build_info{version="1.2.3"}': 1,
    rookery_outbox_events: 3,
    'rookery_hosts{state="online"}': 40,
    'rookery_webhooks{state="active"}': 2,
    'rookery_storage_repository_bytes{repository="mine/www"}': 600,
    'rookery_storage_repository_bytes{repository="(others)"}': 400,
    'rookery_disk_free_bytes{folder="data"}': 50,
    rookery_signing_key_active_timestamp_seconds: 1_700_000_000,
    rookery_backup_last_success_timestamp_seconds: 1_700_000_000,
    rookery_backup_bytes: 900,
  }
  const found = Object.keys(expected).map((sample) => [sample, sampleOf(text, sample)])
  expect(Object.fromEntries(found)).toEqual(expected)
})

it('values that were read minutes ago are left out', async () => {
  const registry = new Registry()
  const metrics = createMetrics('1.2.3', registry)
  const readAt = Date.now() - 600_000
  metrics.show({ ...VALUES, readAt })
  const { text } = await metrics.render([])
  expect(sampleOf(text, 'rookery_outbox_events')).toBeUndefined()
  expect(sampleOf(text, 'rookery_hosts{state="online"}')).toBeUndefined()
  expect(sampleOf(text, 'rookery_values_read_timestamp_seconds')).toBe(readAt / 1000)
})
