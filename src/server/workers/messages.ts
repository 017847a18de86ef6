import type { EmbeddedPostgres } from '../../embedded-postgres/supervisor.ts'
import type { Leave } from '../readiness.ts'
import type { Answers, Posts } from './peers.ts'

/** A value for all other processes. */
export type Post = { readonly topic: keyof Posts; readonly value: unknown }

/** Parts that a worker needs to start, beside the environment. */
export type WorkerStart = {
  /** The embedded Postgres of the primary; undefined: that of ROOKERY_DATABASE_URL. */
  readonly connection: EmbeddedPostgres['connection'] | undefined
  /** Connections to Postgres that this process may use. */
  readonly databaseConnectionsMax: number
}

/** Messages that two processes both send. */
export type SharedMessage =
  | { readonly kind: 'posts'; readonly from: number; readonly posts: readonly Post[] }
  | { readonly kind: 'ask'; readonly id: number; readonly topic: keyof Answers }
  /** `value` undefined: the process could not answer. */
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }

export type ToWorker =
  | SharedMessage
  | { readonly kind: 'start'; readonly start: WorkerStart }
  /** Ends the worker in order. */
  | { readonly kind: 'stop'; readonly leave: Leave }
  | { readonly kind: 'answers'; readonly id: number; readonly values: readonly unknown[] }
  | { readonly kind: 'joined' }
  | { readonly kind: 'left'; readonly from: number }

export type ToPrimary =
  | SharedMessage
  /** The worker is loaded, and waits for `start`. */
  | { readonly kind: 'loaded' }
  | { readonly kind: 'listening'; readonly url: string }
  /** It cannot start, for a reason that the operator can end. */
  | { readonly kind: 'failed'; readonly message: string }
