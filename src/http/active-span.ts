/** The part of a span of OpenTelemetry's API that is used here. */
export type ActiveSpan = {
  spanContext(): {
    readonly traceId: string
    readonly spanId: string
    readonly traceFlags: number
  }
  setAttribute(name: string, value: string): unknown
  updateName(name: string): unknown
}

type OpenTelemetry = {
  readonly context?: { active(): { getValue(key: symbol): unknown } }
}

// Under these symbols the API of OpenTelemetry, version 1, shares its state with all its copies in a process.
const API = Symbol.for('opentelemetry.js.api.1')
const SPAN = Symbol.for('OpenTelemetry Context Key SPAN')

/**
 * Returns the span of the request that is handled now, when an operator has loaded the automatic instrumentation of
 * OpenTelemetry into the process; undefined otherwise.
 */
export function findActiveSpan(): ActiveSpan | undefined {
  const api = (globalThis as { [API]?: OpenTelemetry })[API]
  return api?.context?.active().getValue(SPAN) as ActiveSpan | undefined
}

/** Names the span by the route, which the instrumentation does not know. */
export function nameSpan(span: ActiveSpan, method: string, route: string): void {
  span.setAttribute('http.route', route)
  span.updateName(`${method} ${route}`)
}
