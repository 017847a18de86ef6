import pg from 'pg'
import { errnoOf } from '../async/errno.ts'
import { type RegistryError, unavailable } from '../oci/errors.ts'

/** What a named query needs: the pool, or the one connection of a transaction. */
export interface Queryable {
  query<Row>(text: string, values?: readonly unknown[]): Promise<{ rows: Row[] }>
}

/** Only given inside `Database.transaction`. */
export interface Transaction extends Queryable {
  readonly __transaction: true
}

export type DatabaseOptions = {
  connection: string | { host: string; port: number; user: string; database: string }
  connectionsMax: number
  /** Told about connections that broke while nobody used them. */
  onIdleError(error: Error): void
}

// A pool that is exhausted for this long means that the database is stuck, not busy.
const CONNECT_MILLISECONDS_MAX = 10_000
const STATEMENT_MILLISECONDS_MAX = 30_000
const IDLE_MILLISECONDS_MAX = 30_000
const TRIES_MAX = 4
// Deadlock, serialization failure: the database asks to try the same transaction again.
const TRY_AGAIN: ReadonlySet<unknown> = new Set(['40P01', '40001'])
const POSTGRES_VERSION_MIN = 14

const INT8_OID = 20

/** The pool. Every statement is prepared once a connection and then only bound and executed. */
export class Database implements Queryable {
  readonly #pool: pg.Pool
  readonly #names = new Map<string, string>()

  constructor(options: DatabaseOptions) {
    const connection =
      typeof options.connection === 'string'
        ? { connectionString: options.connection }
        : // A Unix socket of our own speaks no TLS, whatever PGSSLMODE says.
          { ...options.connection, ssl: false }
    this.#pool = new pg.Pool({
      ...connection,
      application_name: 'rookery',
      max: options.connectionsMax,
      connectionTimeoutMillis: CONNECT_MILLISECONDS_MAX,
      idleTimeoutMillis: IDLE_MILLISECONDS_MAX,
      statement_timeout: STATEMENT_MILLISECONDS_MAX,
      idle_in_transaction_session_timeout: STATEMENT_MILLISECONDS_MAX,
      types: { getTypeParser: typeParser },
    })
    this.#pool.on('error', options.onIdleError)
    // The pool listens only to connections that nobody uses; one that breaks in use would end the
    // process. Whoever uses it reads the error from its next statement.
    this.#pool.on('connect', (client) => client.on('error', () => {}))
  }

  /** One statement, a transaction of its own; again when the database asks for that. */
  async query<Row>(text: string, values: readonly unknown[] = []): Promise<{ rows: Row[] }> {
    return again(() => this.#send<Row>(this.#pool, text, values))
  }

  /**
   * Runs `work` between begin and commit, and again when the database asks for that; so `work` may
   * do nothing that cannot be done twice, and nothing on the network.
   */
  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return again(() => this.#transactionOnce(work))
  }

  async #transactionOnce<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const client = await this.#connect()
    let broken: Error | undefined
    try {
      await client.query('begin')
      const result = await work({
        __transaction: true,
        query: (text, values = []) => this.#send(client, text, values),
      })
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback').catch((cause: Error) => {
        broken = cause
      })
      throw isUnreachable(error) ? databaseUnavailable(error) : error
    } finally {
      client.release(broken)
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect()
    } catch (error) {
      throw isUnreachable(error) ? databaseUnavailable(error) : error
    }
  }

  /** A connection of one's own, for session locks; release it with `client.release(true)`. */
  async session(): Promise<pg.PoolClient> {
    return this.#pool.connect()
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }

  async #send<Row>(
    target: pg.Pool | pg.PoolClient,
    text: string,
    values: readonly unknown[],
  ): Promise<{ rows: Row[] }> {
    let name = this.#names.get(text)
    if (name === undefined) {
      name = `q${this.#names.size}`
      this.#names.set(text, name)
    }
    try {
      const { rows } = await target.query({ name, text, values: [...values] })
      return { rows: rows as Row[] }
    } catch (error) {
      throw isUnreachable(error) ? databaseUnavailable(error) : error
    }
  }
}

async function again<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt()
    } catch (error) {
      if (tries === TRIES_MAX || !TRY_AGAIN.has(codeOf(error))) throw error
    }
  }
}

// Connection failures, shutdown and start of the server, too many connections.
const UNREACHABLE = /^(?:08...|57P0[123]|53300)$/
const UNREACHABLE_SOCKET: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
])
// What pg throws without a code when a connection ends or none becomes free in time.
const UNREACHABLE_MESSAGE =
  /connection terminated|timeout exceeded when trying to connect|is not queryable/i
const RETRY_AFTER_SECONDS = 2

/** True when the statement never ran, or its connection broke: another try may well succeed. */
function isUnreachable(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return UNREACHABLE.test(error.code ?? '')
  if (!(error instanceof Error)) return false
  const errno = errnoOf(error)
  return errno === undefined
    ? UNREACHABLE_MESSAGE.test(error.message)
    : UNREACHABLE_SOCKET.has(errno)
}

function databaseUnavailable(cause: unknown): RegistryError {
  return unavailable('the registry cannot reach its database at the moment, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  })
}

/** Throws when the server cannot be reached or is too old; the message is one line for operators. */
export async function checkPostgres(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ version: string }>(
    `select current_setting('server_version_num') as version`,
  )
  const major = Math.floor(Number(rows[0]?.version) / 10_000)
  if (!(major >= POSTGRES_VERSION_MIN)) {
    throw new Error(`Postgres ${major} is too old: Rookery needs ${POSTGRES_VERSION_MIN} or newer`)
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

// Sizes and identities stay below 2^53, so numbers hold them.
function typeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  return oid === INT8_OID ? Number : pg.types.getTypeParser(oid, format as 'text')
}
