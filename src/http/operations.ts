import { unavailable } from '../oci/errors.ts'
import type { Route } from './route.ts'

/** The state of the server, for an operator's tools. */
export type Operations = {
  /** The version of this Rookery. */
  readonly version: string
  /** Throws when the database or the storage does not answer, or the storage is that of another database. */
  check(): Promise<void>
  /** Returns the metrics in Prometheus' text format, with its content type. */
  metrics(): Promise<{ contentType: string; text: string }>
}

const READY_RETRY_SECONDS = 5

/** Health for load balancers, metrics for Prometheus. */
export function operationRoutes(operations: Operations): Route[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      access: 'none',
      query: 'any',
      reads: 'nothing',
      handle(ctx) {
        ctx.body = { status: 'ok', version: operations.version }
      },
    },
    {
      method: 'GET',
      path: '/readyz',
      access: 'none',
      query: 'any',
      reads: 'nothing',
      async handle(ctx) {
        try {
          await operations.check()
        } catch (cause) {
          throw unavailable(
            'the database or the storage does not answer, or one is not that of the other',
            {
              retryAfterSeconds: READY_RETRY_SECONDS,
              cause,
            },
          )
        }
        ctx.body = { status: 'ok' }
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      access: 'metrics',
      query: 'any',
      reads: 'nothing',
      async handle(ctx) {
        const { contentType, text } = await operations.metrics()
        ctx.set('Content-Type', contentType)
        ctx.body = text
      },
    },
  ]
}
