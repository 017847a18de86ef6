import { Gauge, type Registry } from 'prom-client'
import type { WatchedValues } from '../db/maintenance/watched-values.ts'
import type { StorageUsage } from '../registry/maintenance/storage-usage.ts'

/** The space of the disk that has a folder, in bytes. */
export type DiskSpace = { readonly free: number; readonly size: number }

/** The values that are read in the background, and not at a scrape. */
export type Watched = Omit<WatchedValues, 'storage'> & {
  /** When they were read, in milliseconds of Unix time. */
  readonly readAt: number
  /** Undefined: the store was not yet measured. */
  readonly storage: StorageUsage | undefined
  /** By the name of a folder, such as `data`. */
  readonly disks: Readonly<Record<string, DiskSpace>>
}

/** Values that are older are left out: a scrape does not show numbers of an hour ago as those of now. */
const SHOWN_MILLISECONDS_MAX = 120_000

/** The label of the repositories that are not named. No repository can have this name. */
const OTHERS = '(others)'

type Labelled = Readonly<Record<string, number>>
/** A gauge: its name, its help, its label if it has one, and its value, or its values by label. */
type Row = readonly [
  name: string,
  help: string,
  label: string | undefined,
  value: (values: Watched) => number | undefined | Labelled,
]

const ROWS: readonly Row[] = [
  [
    'rookery_outbox_events',
    'Committed events that have no position yet, at most 10 000.',
    undefined,
    (v) => v.outboxEvents,
  ],
  [
    'rookery_outbox_oldest_age_seconds',
    'Age of the oldest event without a position; 0 when there is none.',
    undefined,
    (v) => v.outboxSeconds,
  ],
  [
    'rookery_deliveries_pending',
    'Deliveries of active webhooks that wait for an attempt, at most 10 000.',
    undefined,
    (v) => v.pendingDeliveries,
  ],
  [
    'rookery_deliveries_oldest_age_seconds',
    'Age of the oldest pending delivery of an active webhook; 0 when there is none.',
    undefined,
    (v) => v.deliverySeconds,
  ],
  [
    'rookery_deliveries_overdue_seconds',
    'For how long a delivery to a receiver that works is due and was not attempted; 0 when there is none.',
    undefined,
    (v) => v.deliveryOverdueSeconds,
  ],
  [
    'rookery_webhooks',
    'Webhooks by state.',
    'state',
    (v) => ({
      active: v.activeWebhooks,
      paused: v.pausedWebhooks,
      disabled: v.disabledWebhooks,
    }),
  ],
  [
    'rookery_webhooks_failing',
    'Active webhooks whose receivers refused the last attempt.',
    undefined,
    (v) => v.failingWebhooks,
  ],
  [
    'rookery_deletions_queued',
    'Blobs and uploads whose bytes wait for their deletion, at most 10 000.',
    undefined,
    (v) => v.queuedDeletions,
  ],
  [
    'rookery_deployments_open',
    'Deployments that did not end, by state.',
    'state',
    (v) => ({ rolling: v.rollingDeployments, paused: v.pausedDeployments }),
  ],
  [
    'rookery_deployments_rolling_age_seconds',
    'Age of the oldest rolling deployment; 0 when there is none.',
    undefined,
    (v) => v.rollingSeconds,
  ],
  [
    'rookery_deployments_overdue_seconds',
    'For how long a deployment is due for its next step and did not get it; 0 when there is none.',
    undefined,
    (v) => v.deploymentOverdueSeconds,
  ],
  [
    'rookery_deployment_targets_overdue',
    'Units of open deployments that did not conclude before their deadline.',
    undefined,
    (v) => v.overdueTargets,
  ],
  [
    'rookery_hosts',
    'Hosts by state: online, offline, or pending until somebody approves them; at most 10 000 of each.',
    'state',
    (v) => ({ online: v.onlineHosts, offline: v.offlineHosts, pending: v.pendingHosts }),
  ],
  [
    'rookery_signing_key_active_timestamp_seconds',
    'When the key that signs tokens began to sign.',
    undefined,
    (v) => v.signingKeySince ?? undefined,
  ],
  [
    'rookery_credentials_expiring',
    'Credentials that expire within 14 days, at most 100.',
    undefined,
    (v) => v.expiringCredentials,
  ],
  [
    'rookery_backup_last_success_timestamp_seconds',
    'When the snapshot of the last complete backup was taken; missing when there is none.',
    undefined,
    (v) => v.backupAt ?? undefined,
  ],
  [
    'rookery_backup_bytes',
    'Bytes of the blobs of the last complete backup.',
    undefined,
    (v) => v.backupBytes ?? undefined,
  ],
  [
    'rookery_storage_blobs',
    'Blobs in the store, measured once an hour.',
    undefined,
    (v) => v.storage?.blobs,
  ],
  [
    'rookery_storage_bytes',
    'Bytes of all blobs in the store, measured once an hour.',
    undefined,
    (v) => v.storage?.bytes,
  ],
  [
    'rookery_storage_lost_blobs',
    'Blobs whose bytes the store lost, counted once an hour.',
    undefined,
    (v) => v.storage?.lost,
  ],
  [
    'rookery_storage_repository_bytes',
    'Bytes of the 20 repositories with the most, and of all others, measured once an hour. A blob counts in each repository that has it.',
    'repository',
    (v) => v.storage && bytesByRepository(v.storage),
  ],
  [
    'rookery_storage_measured_timestamp_seconds',
    'When the store was measured.',
    undefined,
    (v) => v.storage && v.storage.measuredAt / 1000,
  ],
  [
    'rookery_disk_free_bytes',
    'Free bytes of the disk that has a folder, for the user of the server.',
    'folder',
    (v) => ofDisks(v, 'free'),
  ],
  [
    'rookery_disk_size_bytes',
    'Bytes of the disk that has a folder.',
    'folder',
    (v) => ofDisks(v, 'size'),
  ],
]

const READ_AT = 'rookery_values_read_timestamp_seconds'

/**
 * Registers the gauges of values that are read in the background, and returns the function that shows new ones. All
 * processes of a server read the same values, so they are not added up.
 */
export function registerValues(registry: Registry): (values: Watched) => void {
  let shown: Watched | undefined
  const registers = [registry]
  for (const [name, help, label, value] of ROWS) {
    new Gauge({
      ...{ name, help, registers, aggregator: 'max' as const },
      labelNames: label === undefined ? [] : [label],
      collect() {
        this.reset()
        const current = isCurrent(shown) ? value(shown) : undefined
        if (typeof current === 'number') this.set(current)
        else if (label === undefined) this.remove()
        else {
          for (const [key, count] of Object.entries(current ?? {}))
            this.set({ [label]: key }, count)
        }
      },
    })
  }
  new Gauge({
    name: READ_AT,
    help: 'When the values of the database and the disks were read; they are read each 15 seconds.',
    aggregator: 'max',
    registers,
    collect() {
      this.set((shown?.readAt ?? 0) / 1000)
    },
  })
  return (values) => {
    shown = values
  }
}

function isCurrent(values: Watched | undefined): values is Watched {
  return values !== undefined && Date.now() - values.readAt < SHOWN_MILLISECONDS_MAX
}

function bytesByRepository({ repositories, otherBytes }: StorageUsage): Labelled {
  const named = repositories.map(({ name, bytes }) => [name, bytes] as const)
  return Object.fromEntries([...named, [OTHERS, otherBytes]])
}

function ofDisks({ disks }: Watched, what: keyof DiskSpace): Labelled {
  return Object.fromEntries(Object.entries(disks).map(([folder, disk]) => [folder, disk[what]]))
}
