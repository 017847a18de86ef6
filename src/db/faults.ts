import pg from 'pg'
import { errnoOf } from '../async/errno.ts'

/** Remedies by SQLSTATE (Postgres, appendix A). */
const REMEDIES: readonly (readonly [sqlState: RegExp, remedy: string])[] = [
  [/^28/, 'check user and password in ROOKERY_DATABASE_URL, and pg_hba.conf of the server'],
  [/^3D000$/, 'create it as docs/settings.md shows, or correct its name in ROOKERY_DATABASE_URL'],
  [/^25006$/, 'this is a standby: ROOKERY_DATABASE_URL must name the primary server'],
  [/^42501$/, 'the role must own its database: alter database DATABASE owner to ROLE'],
  [/^42(?:P06|P07|701|710|723)$/, 'another program uses this database: give Rookery an empty one'],
  [/^53[12]00$/, 'the database server needs more space or memory'],
  [
    /^53300$/,
    'raise max_connections of the server, or lower ROOKERY_DATABASE_CONNECTIONS of each replica',
  ],
  [/^55P03$/, 'another process changes the schema; try again when it has finished'],
  [/^58/, 'the log of the database server has more'],
]

// Connection failures, a server that starts or ends, too many connections.
const NOT_YET = /^(?:08...|57P0[123]|53300)$/
const NOT_YET_CONNECTING: ReadonlySet<string> = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ETIMEDOUT'],
  ...['EPIPE', 'ENOTFOUND', 'EAI_AGAIN'],
])
const NOT_YET_MESSAGE = /connection terminated|timeout exceeded when trying to connect/i

/** True for a failure to connect that time may mend: the server starts, or the network does. */
export function isDatabaseNotReady(error: unknown): boolean {
  const cause = causeOf(error)
  if (cause instanceof pg.DatabaseError) return NOT_YET.test(cause.code ?? '')
  const errno = errnoOf(cause)
  if (errno === undefined) return cause instanceof Error && NOT_YET_MESSAGE.test(cause.message)
  // The socket of a server on this machine that does not run yet.
  if (errno === 'ENOENT')
    return cause instanceof Error && 'syscall' in cause && cause.syscall === 'connect'
  return NOT_YET_CONNECTING.has(errno)
}

/** Returns the reason of a failed statement or connection in one line, with what to do about it where that is known. */
export function describeDatabaseFault(error: unknown): string {
  const cause = causeOf(error)
  const reason = messageOf(cause)
  const remedy = findRemedy(cause)
  return remedy === undefined ? reason : `${reason}; ${remedy}`
}

/** True for a fault of the database that an operator can mend, and false for one of a statement. */
export function isDatabaseFault(error: unknown): boolean {
  const cause = causeOf(error)
  if (!(cause instanceof pg.DatabaseError)) return isDatabaseNotReady(cause)
  return NOT_YET.test(cause.code ?? '') || findRemedy(cause) !== undefined
}

function findRemedy(cause: unknown): string | undefined {
  if (!(cause instanceof pg.DatabaseError)) return undefined
  return REMEDIES.find(([sqlState]) => sqlState.test(cause.code ?? ''))?.[1]
}

/** Returns the innermost cause: the error of the operating system or of Postgres. */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? causeOf(error.cause) : error
}

function messageOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause)
  // One failure for each address of a name.
  const first = cause instanceof AggregateError ? cause.errors[0] : undefined
  return cause.message || (first instanceof Error ? first.message : errnoOf(cause)) || cause.name
}
