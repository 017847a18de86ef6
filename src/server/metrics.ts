import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export type Metrics = {
  observe(answer: { method: string; route: string; status: number; seconds: number }): void
  /** So many events became public, dispatched by this process. */
  sequenced(events: number): void
  /** A try of a delivery ended, such as with `delivered`. */
  attempted(outcome: string): void
  /** Tells how many clients hold the feed, whenever somebody asks. */
  registerFeedClients(clients: () => number): void
  render(): Promise<{ contentType: string; text: string }>
}

// From a cached manifest to a blob of some GB.
const SECONDS_BUCKETS = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60]

/** What Prometheus reads at /metrics. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
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
    help: 'Events that this process gave their place.',
    registers: [registry],
  })
  const attempts = new Counter({
    name: 'rookery_delivery_attempts_total',
    help: 'Deliveries that this process tried, by what came of it.',
    labelNames: ['outcome'] as const,
    registers: [registry],
  })
  return {
    sequenced: (count) => events.inc(count),
    attempted: (outcome) => attempts.inc({ outcome }),
    registerFeedClients(clients) {
      new Gauge({
        name: 'rookery_feed_clients',
        help: 'Clients that hold a stream of events.',
        registers: [registry],
        collect() {
          this.set(clients())
        },
      })
    },
    observe({ method, route, status, seconds: taken }) {
      requests.inc({ method, route, status })
      seconds.observe({ method, route }, taken)
    },
    async render() {
      return { contentType: registry.contentType, text: await registry.metrics() }
    },
  }
}
