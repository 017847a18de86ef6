import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  Registry,
} from 'prom-client'
import { REFUSAL_REASONS, type RefusalReason } from '../auth/authenticator.ts'
import type { PoolUse } from '../db/database.ts'
import { CUT_REASONS, type CutReason } from '../http/open-connections.ts'
import type { SweepReport } from '../registry/maintenance/garbage.ts'
import type { StoreCall } from '../storage/s3/observe.ts'
import { registerValues, type Watched } from './metrics-values.ts'

/** An answered request. */
export type ObservedAnswer = {
  readonly method: string
  readonly route: string
  readonly status: number
  readonly seconds: number
}

export type Metrics = {
  observe(answer: ObservedAnswer): void
  /** Counts events that this process gave their position. */
  sequenced(events: number): void
  /** Counts a delivery attempt, or a delivery that ended without one, by its outcome such as `delivered`. */
  attempted(outcome: string): void
  /** Counts a login that was refused, by reason such as `throttled`. */
  loginRefused(reason: RefusalReason): void
  /** Counts a call of the object store. */
  storeCalled(call: StoreCall): void
  /** Called by the process that sweeps, before the first sweep. */
  sweepsBegin(): void
  /** Counts a sweep that ended. */
  swept(report: Pick<SweepReport, 'blobs' | 'bytes' | 'failures'>, seconds: number): void
  /** Counts a sweep that failed. */
  sweepFailed(): void
  /** Registers a number that is read at every scrape. */
  registerCount(what: keyof typeof COUNTS, count: () => number): void
  /** Registers the bytes of all connections so far, which are read at every scrape. */
  registerTransfer(bytes: () => Transferred): void
  /** Registers the numbers of files and documents that wait for a process of their own, which are read at every scrape. */
  registerDerivations(waiting: () => Readonly<Record<string, number>>): void
  /** Registers the connections to Postgres by pool, which are read at every scrape. */
  registerPools(use: () => Readonly<Record<string, PoolUse>>): void
  /** Shows values that were read in the background. */
  show(values: Watched): void
  /** Counts a connection that was refused or closed early, by reason such as `slow-body`. */
  cut(reason: CutReason): void
  /** Returns the metrics of this process, in the JSON of prom-client. */
  collect(): Promise<object[]>
  /** Returns the metrics of this process and of `others`, added up, in Prometheus' text format. */
  render(others: readonly object[][]): Promise<{ contentType: string; text: string }>
}

/** Bytes of connections, with headers. */
export type Transferred = { readonly received: number; readonly sent: number }

const COUNTS = {
  connections: ['rookery_connections', 'Open connections.'],
  requestsInFlight: ['rookery_http_requests_in_flight', 'Requests that are being answered.'],
  feedClients: [
    'rookery_feed_clients',
    'Clients with an open stream or long poll of events or of a deployment.',
  ],
  waitingHosts: ['rookery_waiting_hosts', 'Hosts that wait for something else to run.'],
} as const

// From a cached manifest to a blob of some GB.
const SECONDS_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60]
// From a round that finds nothing to one that empties a large store.
const SWEEP_SECONDS_BUCKETS = [0.025, 0.1, 0.5, 2.5, 10, 60, 600]

/** Gauges of the library whose names end as those of counters do. The same numbers by type have other names. */
const LEFT_OUT = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

/**
 * Creates the metrics that Prometheus reads at /metrics. Each has the `aggregator` by which several processes of one server
 * are added up: values that all of them read are not.
 */
export function createMetrics(version: string, registry = new Registry()): Metrics {
  collectDefaultMetrics({ register: registry })
  for (const name of LEFT_OUT) registry.removeSingleMetric(name)
  const registers = [registry]
  const buildInfo = new Gauge({
    name: 'rookery_build_info',
    help: 'The version of this Rookery, as a label; the value is always 1.',
    labelNames: ['version'] as const,
    aggregator: 'first',
    registers,
  })
  buildInfo.set({ version }, 1)
  const events = new Counter({
    name: 'rookery_events_total',
    help: 'Events that this process gave their position in the feed.',
    registers,
  })
  const attempts = new Counter({
    name: 'rookery_delivery_attempts_total',
    help: 'Webhook deliveries that this process attempted or ended, by outcome.',
    labelNames: ['outcome'] as const,
    registers,
  })
  const logins = new Counter({
    name: 'rookery_logins_refused_total',
    help: 'Requests with a credential, token or password that was refused, by reason.',
    labelNames: ['reason'] as const,
    registers,
  })
  const cuts = new Counter({
    name: 'rookery_connections_cut_total',
    help: 'Connections that were refused or closed early, by reason.',
    labelNames: ['reason'] as const,
    registers,
  })
  for (const reason of REFUSAL_REASONS) logins.inc({ reason }, 0)
  for (const reason of CUT_REASONS) cuts.inc({ reason }, 0)
  const show = registerValues(registry)
  return {
    ...createRequests(registry),
    ...createSweeps(registry),
    ...createStoreCalls(registry),
    ...createPools(registry),
    cut: (reason) => cuts.inc({ reason }),
    loginRefused: (reason) => logins.inc({ reason }),
    sequenced: (count) => events.inc(count),
    attempted: (outcome) => attempts.inc({ outcome }),
    show,
    registerCount(what, count) {
      const [name, help] = COUNTS[what]
      new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(count())
        },
      })
    },
    registerDerivations(waiting) {
      new Gauge({
        name: 'rookery_derivations_waiting',
        help: 'Large files to analyze, and documents to derive from images, that wait for their process.',
        labelNames: ['process'] as const,
        registers,
        collect() {
          for (const [process, count] of Object.entries(waiting())) this.set({ process }, count)
        },
      })
    },
    collect: () => registry.getMetricsAsJSON(),
    async render(others) {
      const { contentType } = registry
      if (others.length === 0) return { contentType, text: await registry.metrics() }
      const all = AggregatorRegistry.aggregate([await registry.getMetricsAsJSON(), ...others])
      return { contentType, text: await all.metrics() }
    },
  }
}

function createRequests(registry: Registry): Pick<Metrics, 'observe' | 'registerTransfer'> {
  const registers = [registry]
  const requests = new Counter({
    name: 'rookery_http_requests_total',
    help: 'Answered requests, by route and status. 499: the client left before its answer.',
    labelNames: ['method', 'route', 'status'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'rookery_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the end of its handler.',
    labelNames: ['method', 'route'] as const,
    buckets: SECONDS_BUCKETS,
    registers,
  })
  return {
    observe({ method, route, status, seconds: taken }) {
      requests.inc({ method, route, status })
      seconds.observe({ method, route }, taken)
    },
    registerTransfer(bytes) {
      const count = (what: keyof Transferred, help: string) => {
        let counted = 0
        new Counter({
          ...{ name: `rookery_http_${what}_bytes_total`, help, registers },
          collect() {
            // A connection that breaks may have sent less than it was given.
            const more = Math.max(0, bytes()[what] - counted)
            counted += more
            this.inc(more)
          },
        })
      }
      count('received', 'Bytes that clients sent, with headers.')
      count('sent', 'Bytes that were sent to clients, with headers.')
    },
  }
}

function createSweeps(registry: Registry): Pick<Metrics, 'sweepsBegin' | 'swept' | 'sweepFailed'> {
  const registers = [registry]
  const seconds = new Histogram({
    name: 'rookery_sweep_duration_seconds',
    help: 'Time that a sweep of the garbage collection took.',
    buckets: SWEEP_SECONDS_BUCKETS,
    registers,
  })
  const blobs = new Counter({
    name: 'rookery_sweep_removed_blobs_total',
    help: 'Blobs that sweeps removed.',
    registers,
  })
  const bytes = new Counter({
    name: 'rookery_sweep_removed_bytes_total',
    help: 'Bytes of blobs that sweeps removed.',
    registers,
  })
  const failures = new Counter({
    name: 'rookery_sweep_failures_total',
    help: 'Sweeps that failed, and deletions of bytes that failed in a sweep.',
    registers,
  })
  const last = new Gauge({
    name: 'rookery_sweep_last_success_timestamp_seconds',
    help: 'When the last sweep ended without a failure; at first, when the server started; 0 when it is read-only.',
    aggregator: 'max',
    registers,
  })
  return {
    sweepsBegin: () => last.setToCurrentTime(),
    swept(report, taken) {
      seconds.observe(taken)
      blobs.inc(report.blobs)
      bytes.inc(report.bytes)
      failures.inc(report.failures.length)
      if (report.failures.length === 0) last.setToCurrentTime()
    },
    sweepFailed: () => failures.inc(),
  }
}

function createStoreCalls(registry: Registry): Pick<Metrics, 'storeCalled'> {
  const registers = [registry]
  const seconds = new Histogram({
    name: 'rookery_s3_request_duration_seconds',
    help: 'Time from the start of a call of the object store to the headers of its answer, with all attempts, by operation.',
    labelNames: ['operation'] as const,
    buckets: SECONDS_BUCKETS,
    registers,
  })
  const errors = new Counter({
    name: 'rookery_s3_request_errors_total',
    help: 'Calls of the object store that failed after all attempts, by operation. A missing object is no error.',
    labelNames: ['operation'] as const,
    registers,
  })
  return {
    storeCalled({ operation, seconds: taken, hasFailed }) {
      seconds.observe({ operation }, taken)
      errors.inc({ operation }, hasFailed ? 1 : 0)
    },
  }
}

function createPools(registry: Registry): Pick<Metrics, 'registerPools'> {
  return {
    registerPools(use) {
      const gauge = (
        name: string,
        help: string,
        labelNames: readonly ('pool' | 'state')[],
        setAll: (gauge: Gauge<'pool' | 'state'>, pool: string, use: PoolUse) => void,
      ) =>
        new Gauge({
          ...{ name, help, labelNames, registers: [registry] },
          collect() {
            for (const [pool, one] of Object.entries(use())) setAll(this, pool, one)
          },
        })
      gauge(
        'rookery_database_connections',
        'Open connections to Postgres, by pool and state.',
        ['pool', 'state'],
        (connections, pool, { open, idle }) => {
          connections.set({ pool, state: 'idle' }, idle)
          connections.set({ pool, state: 'busy' }, open - idle)
        },
      )
      gauge(
        'rookery_database_connections_max',
        'Connections to Postgres that may be open, by pool.',
        ['pool'],
        (max, pool, { most }) => max.set({ pool }, most),
      )
      gauge(
        'rookery_database_waiting',
        'Statements and transactions that wait for a connection to Postgres, by pool.',
        ['pool'],
        (waiting, pool, { waiting: count }) => waiting.set({ pool }, count),
      )
    },
  }
}
