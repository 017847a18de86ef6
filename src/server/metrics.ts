import {
  AggregatorRegistry,
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  Registry,
} from 'prom-client'

export type Metrics = {
  observe(answer: { method: string; route: string; status: number; seconds: number }): void
  /** Counts events that this process gave their position. */
  sequenced(events: number): void
  /** Counts a delivery attempt, or a delivery that ended without one, by its outcome such as `delivered`. */
  attempted(outcome: string): void
  /** Registers a number that is read at every scrape. */
  registerCount(what: keyof typeof COUNTS, count: () => number): void
  /** Registers the numbers of files and documents that wait for a process of their own, which are read at every scrape. */
  registerDerivations(waiting: () => Readonly<Record<string, number>>): void
  /** Counts a connection that was refused or closed early, by reason such as `slow-body`. */
  cut(reason: string): void
  /** Returns the metrics of this process, in the JSON of prom-client. */
  collect(): Promise<object[]>
  /** Returns the metrics of this process and of `others`, added up, in Prometheus' text format. */
  render(others: readonly object[][]): Promise<{ contentType: string; text: string }>
}

const COUNTS = {
  connections: ['rookery_connections', 'Open connections.'],
  feedClients: [
    'rookery_feed_clients',
    'Clients with an open stream or long poll of events or of a deployment.',
  ],
  waitingHosts: ['rookery_waiting_hosts', 'Hosts that wait for something else to run.'],
} as const

// From a cached manifest to a blob of some GB.
const SECONDS_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60]

/** Creates the metrics that Prometheus reads at /metrics. */
export function createMetrics(version: string): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const buildInfo = new Gauge({
    name: 'rookery_build_info',
    help: 'The version of this Rookery, as a label; the value is always 1.',
    labelNames: ['version'] as const,
    aggregator: 'first',
    registers: [registry],
  })
  buildInfo.set({ version }, 1)
  const requests = new Counter({
    name: 'rookery_http_requests_total',
    help: 'Answered requests, by route and status.',
    labelNames: ['method', 'route', 'status'] as const,
    registers: [registry],
  })
  const seconds = new Histogram({
    name: 'rookery_http_request_seconds',
    help: 'Time from the first byte of a request to the end of its handler.',
    labelNames: ['method', 'route'] as const,
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  })
  const events = new Counter({
    name: 'rookery_events_total',
    help: 'Events that this process gave their position in the feed.',
    registers: [registry],
  })
  const attempts = new Counter({
    name: 'rookery_delivery_attempts_total',
    help: 'Webhook deliveries that this process attempted or ended, by outcome.',
    labelNames: ['outcome'] as const,
    registers: [registry],
  })
  const cuts = new Counter({
    name: 'rookery_connections_cut_total',
    help: 'Connections that were refused or closed early, by reason.',
    labelNames: ['reason'] as const,
    registers: [registry],
  })
  return {
    cut: (reason) => cuts.inc({ reason }),
    registerCount(what, count) {
      const [name, help] = COUNTS[what]
      new Gauge({
        ...{ name, help, registers: [registry] },
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
        registers: [registry],
        collect() {
          for (const [process, count] of Object.entries(waiting())) this.set({ process }, count)
        },
      })
    },
    sequenced: (count) => events.inc(count),
    attempted: (outcome) => attempts.inc({ outcome }),
    observe({ method, route, status, seconds: taken }) {
      requests.inc({ method, route, status })
      seconds.observe({ method, route }, taken)
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
