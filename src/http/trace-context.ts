import type { ActiveSpan } from './active-span.ts'

/** The place of a request in a trace (W3C Trace Context), as log lines name it. */
export type TraceContext = {
  /** 32 hexadecimal digits. */
  readonly traceId: string
  /** The 16 hexadecimal digits of this request, as a span. */
  readonly spanId: string
  /** The value of `traceresponse` for a client that sent a `traceparent`; undefined for others. */
  readonly response: string | undefined
}

// W3C Trace Context, section 3.2.2: the ids are not zero, and version ff is forbidden. A later version may add fields.
const TRACEPARENT =
  /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?$/
const SAMPLED = 1

/** Returns the trace id and the flags of a `traceparent`; undefined for a text that is none. */
export function parseTraceparent(text: string): { traceId: string; flags: number } | undefined {
  const [, version, traceId, flags, more] = TRACEPARENT.exec(text) ?? []
  if (traceId === undefined || flags === undefined) return undefined
  if (version === '00' && more !== undefined) return undefined
  return { traceId, flags: Number.parseInt(flags, 16) }
}

/**
 * Returns the trace of a request: that of its span, or of its `traceparent`; and without a valid one a new trace, whose id is
 * the request id without dashes. `requestId`: a random UUID.
 */
export function traceOf(
  traceparent: string | undefined,
  requestId: string,
  span: ActiveSpan | undefined,
): TraceContext {
  const { traceId, spanId, flags } =
    span === undefined ? idsOf(traceparent, requestId) : idsOfSpan(span)
  if (traceparent === undefined) return { traceId, spanId, response: undefined }
  return { traceId, spanId, response: `00-${traceId}-${spanId}-0${flags & SAMPLED}` }
}

type Ids = { readonly traceId: string; readonly spanId: string; readonly flags: number }

function idsOf(traceparent: string | undefined, requestId: string): Ids {
  const hex = requestId.replaceAll('-', '')
  const parent = traceparent === undefined ? undefined : parseTraceparent(traceparent)
  return { traceId: hex, flags: 0, ...parent, spanId: hex.slice(-16) }
}

function idsOfSpan(span: ActiveSpan): Ids {
  const { traceId, spanId, traceFlags: flags } = span.spanContext()
  return { traceId, spanId, flags }
}
