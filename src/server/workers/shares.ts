import type { Config } from '../../config/config.ts'
import { QUESTION_CONNECTIONS } from '../../db/questions.ts'

/** For sweeps, and for what takes a lock on a connection of its own. */
const PRIMARY = 2
/** One for a request, and one that listens for notifications. */
const WORKER_MIN = 2

/** Connections to Postgres of each process of a server, without those of lists and searches. */
export type ConnectionShares = {
  readonly primary: number
  readonly worker: number
  /** Connections of all processes, with those of lists and searches, and of a worker that replaces another. */
  readonly all: number
}

/** Shares out the connections to Postgres that the configuration allows. */
export function connectionShares({
  databaseConnectionsMax,
  workers,
}: Pick<Config, 'databaseConnectionsMax' | 'workers'>): ConnectionShares {
  const worker = Math.max(WORKER_MIN, Math.floor((databaseConnectionsMax - PRIMARY) / workers))
  const all = (workers + 1) * (worker + QUESTION_CONNECTIONS) + PRIMARY + QUESTION_CONNECTIONS
  return { primary: PRIMARY, worker, all }
}
