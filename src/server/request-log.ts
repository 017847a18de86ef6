import type { Observation, RequestIds } from '../http/observation.ts'
import type { Log } from './log.ts'

/** Returns the fields that lead from a line to its request, and to its trace by the names of OpenTelemetry's data model. */
export function idFields({ requestId, traceId, spanId }: RequestIds): object {
  return { requestId, trace_id: traceId, span_id: spanId }
}

/** Writes the line of a request: a write at `info`, a read at `debug`. */
export function logRequest(observation: Observation, log: Log): void {
  const level = observation.isWrite ? 'info' : 'debug'
  if (!log.isLevelEnabled(level)) return
  const { isWrite: _, ids, describe, ...fields } = observation
  log[level]({ ...idFields(ids()), ...fields, ...describe() }, 'request')
}
