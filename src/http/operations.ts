import { unavailable } from '../oci/errors.ts'
import type { Route } from './route.ts'

/** What an operator's tools ask. */
export type Operations = {
  /** Throws when the database or the storage does not answer. */
  check(): Promise<void>
  /** Prometheus' text format, and its content type. */
  metrics(): Promise<{ contentType: string; text: string }>
}

const READY_AGAIN_SECONDS = 5

/** Health for load balancers, metrics for Prometheus. */
export function operationRoutes(operations: Operations): Route[] {
  return [
    {
      method: 'GET',
      path: '/healthz',
      access: 'none',
      handle(ctx) {
        ctx.body = { status: 'ok' }
      },
    },
    {
      method: 'GET',
      path: '/readyz',
      access: 'none',
      async handle(ctx) {
        try {
          await operations.check()
        } catch (cause) {
          throw unavailable('the database or the storage does not answer', {
            retryAfterSeconds: READY_AGAIN_SECONDS,
            cause,
          })
        }
        ctx.body = { status: 'ok' }
      },
    },
    {
      method: 'GET',
      path: '/metrics',
      access: 'admin',
      async handle(ctx) {
        const { contentType, text } = await operations.metrics()
        ctx.set('Content-Type', contentType)
        ctx.body = text
      },
    },
  ]
}
