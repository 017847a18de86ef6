import pg from 'pg'
import { errnoOf } from '../async/errno.ts'
import { RegistryError, unauthorized, unavailable } from '../oci/errors.ts'
import { type Content, ContentWrites } from './content-writes.ts'
import { type NamedStatement, StatementNames } from './statement-names.ts'

/** Runs statements: the pool, or the one connection of a transaction. */
export interface Queryable {
  query<Row>(text: string, values?: readonly unknown[]): Promise<{ rows: Row[] }>
}

/** A Queryable that only `Database.transaction` makes. */
export interface Transaction extends Queryable {
  readonly __transaction: true
}

export type DatabaseOptions = {
  connection: string | { host: string; port: number; user: string; database: string }
  connectionsMax: number
  /** The name of its connections in pg_stat_activity. */
  applicationName?: string
  /** The longest time of a statement. */
  statementMilliseconds?: number
  /** The UUID of a server that has a `ContentLease`: its own changes of content do not wait for it. */
  server?: string | undefined
  /** Receives the errors of idle connections. */
  onIdleError(error: Error): void
}

// A pool that is exhausted for longer means that the database is stuck, not busy.
const CONNECT_MILLISECONDS_MAX = 10_000
const STATEMENT_MILLISECONDS_MAX = 30_000
// An idle connection takes 3 to 20 MB of memory in Postgres, and a new one is ready in milliseconds.
const IDLE_MILLISECONDS_MAX = 10_000
const ATTEMPTS_MAX = 4
// Deadlock and serialization failure: Postgres asks the client to repeat the transaction. Foreign key violation:
// a sweep removed the empty repository meanwhile, and the repeated push creates it again.
const REPEATABLE: ReadonlySet<unknown> = new Set(['40P01', '40001', '23503'])
// Raised by functions of the schema: `assert_unrevoked`, `assert_open_uploads_below` and `record_build`.
const REVOKED = 'RK401'
const TOO_MANY = 'RK429'
const CONFLICT = 'RK409'
const TOO_MANY_RETRY_SECONDS = 60
const POSTGRES_VERSION_MIN = 14

const APPLICATION_NAME = 'rookery'

const INT8_OID = 20

/** How a pool is used now. */
export type PoolUse = {
  /** Open connections, those without work among them, and the most that may be open. */
  readonly open: number
  readonly idle: number
  readonly most: number
  /** Statements and transactions that wait for a connection. */
  readonly waiting: number
}

/** The connection pool. A connection prepares each statement once, and then binds and executes it. */
export class Database implements Queryable {
  readonly #pool: pg.Pool
  readonly #names = new StatementNames()
  readonly #server: string | undefined
  /** The writes that change content. */
  readonly writes = new ContentWrites()
  /** Without a `ContentLease`, others may change the content at any time. */
  content: Content = { version: undefined }

  constructor(options: DatabaseOptions) {
    const connection =
      typeof options.connection === 'string'
        ? { connectionString: options.connection }
        : // The embedded Postgres has a Unix socket without TLS: PGSSLMODE does not apply.
          { ...options.connection, ssl: false }
    this.#server = options.server
    this.#pool = new pg.Pool({
      ...connection,
      ...(options.server !== undefined && { options: `-c rookery.server=${options.server}` }),
      application_name: options.applicationName ?? APPLICATION_NAME,
      max: options.connectionsMax,
      connectionTimeoutMillis: CONNECT_MILLISECONDS_MAX,
      idleTimeoutMillis: IDLE_MILLISECONDS_MAX,
      statement_timeout: options.statementMilliseconds ?? STATEMENT_MILLISECONDS_MAX,
      idle_in_transaction_session_timeout: STATEMENT_MILLISECONDS_MAX,
      types: { getTypeParser: typeParser },
    })
    this.#pool.on('error', (error) => {
      // `end` resolves before Postgres has closed every connection: one that the stop of Postgres ends is no fault.
      if (!this.#pool.ending) options.onIdleError(error)
    })
    // The pool listens to the errors of idle connections only. Without this listener, a connection that
    // breaks in use would end the process; its user gets the error from the next statement.
    this.#pool.on('connect', (client) => client.on('error', () => {}))
  }

  /** Runs one statement in a transaction of its own, and repeats it when Postgres asks for that. */
  async query<Row>(text: string, values: readonly unknown[] = []): Promise<{ rows: Row[] }> {
    return repeated(() => this.#queryOnce<Row>(text, values))
  }

  /**
   * Runs `work` between begin and commit, and repeats it when Postgres asks for that. The work must be
   * repeatable, and must not use the network.
   */
  async transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return repeated(() => this.#transactionOnce(work))
  }

  async #transactionOnce<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const client = await this.#connect()
    let broken: Error | undefined
    let changesContent = false
    try {
      await client.query('begin')
      const result = await work({
        __transaction: true,
        query: (text, values = []) => {
          const statement = this.#names.nameStatement(text)
          if (statement.changesContent && !changesContent) {
            changesContent = true
            this.writes.begin()
          }
          return send(client, statement, values)
        },
      })
      await client.query('commit')
      return result
    } catch (error) {
      await client.query('rollback').catch((cause: Error) => {
        broken = cause
      })
      throw translateError(error)
    } finally {
      if (changesContent) this.writes.end(broken === undefined)
      client.release(broken)
    }
  }

  async #queryOnce<Row>(text: string, values: readonly unknown[]): Promise<{ rows: Row[] }> {
    const statement = this.#names.nameStatement(text)
    if (!statement.changesContent) return send<Row>(this.#pool, statement, values)
    let isKnown = true
    this.writes.begin()
    try {
      return await send<Row>(this.#pool, statement, values)
    } catch (error) {
      isKnown = !(error instanceof RegistryError && isUnreachable(error.cause))
      throw error
    } finally {
      this.writes.end(isKnown)
    }
  }

  async #connect(): Promise<pg.PoolClient> {
    try {
      return await this.#pool.connect()
    } catch (error) {
      throw translateError(error)
    }
  }

  /** Takes a connection out of the pool, to cancel its statements. `release(true)` closes it. */
  async connection(): Promise<{
    db: Transaction
    processId: number
    release(close: boolean): void
  }> {
    const client = await this.#connect()
    return {
      db: {
        __transaction: true,
        query: (text, values = []) => send(client, this.#names.nameStatement(text), values),
      },
      processId: (client as pg.PoolClient & { processID: number }).processID,
      release: (close) => client.release(close),
    }
  }

  /** Takes a connection out of the pool, for session locks. Release it with `client.release(true)`. */
  async session(): Promise<pg.PoolClient> {
    const client = await this.#pool.connect()
    // Its statements are not counted as writes of this process.
    if (this.#server === undefined) return client
    try {
      await client.query("set rookery.server = ''")
      return client
    } catch (error) {
      client.release(true)
      throw error
    }
  }

  /** How the connections are used now. */
  get use(): PoolUse {
    const { totalCount: open, idleCount: idle, waitingCount: waiting, options } = this.#pool
    return { open, idle, waiting, most: options.max }
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }
}

async function send<Row>(
  target: pg.Pool | pg.PoolClient,
  { name, text }: NamedStatement,
  values: readonly unknown[],
): Promise<{ rows: Row[] }> {
  try {
    const { rows } = await target.query({ name, text, values: [...values] })
    return { rows: rows as Row[] }
  } catch (error) {
    throw translateError(error)
  }
}

async function repeated<T>(attempt: () => Promise<T>): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await attempt()
    } catch (error) {
      if (attempts === ATTEMPTS_MAX || !REPEATABLE.has(codeOf(error))) throw error
    }
  }
}

// Connection failures, shutdown and start of the server, too many connections.
const UNREACHABLE = /^(?:08...|57P0[1235]|53300)$/
const UNREACHABLE_SOCKET: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
])
// Messages of errors without a code: the connection ended, or none became free in time.
const UNREACHABLE_MESSAGE =
  /connection terminated|timeout exceeded when trying to connect|is not queryable/i
// No space, memory or connections; a failed disk; read-only after a failover; canceled; a lock that another one has.
const TEMPORARY = /^(?:53...|58030|25006|57014|55P03)$/
const RETRY_AFTER_SECONDS = 2
const TEMPORARY_RETRY_SECONDS = 10

/** True when the statement never ran, or its connection broke: a later attempt may succeed. */
function isUnreachable(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return UNREACHABLE.test(error.code ?? '')
  if (!(error instanceof Error)) return false
  const errno = errnoOf(error)
  return errno === undefined
    ? UNREACHABLE_MESSAGE.test(error.message)
    : UNREACHABLE_SOCKET.has(errno)
}

/** Returns the error that the client sees, when the database decides which one. */
function translateError(error: unknown): unknown {
  if (codeOf(error) === REVOKED) return unauthorized('the credential or token was revoked', error)
  if (codeOf(error) === TOO_MANY && error instanceof Error) {
    const retryAfterSeconds = TOO_MANY_RETRY_SECONDS
    return new RegistryError('TOOMANYREQUESTS', undefined, {
      message: error.message,
      retryAfterSeconds,
      cause: error,
    })
  }
  if (codeOf(error) === CONFLICT && error instanceof Error) {
    return new RegistryError('CONFLICT', undefined, { message: error.message, cause: error })
  }
  if (isUnreachable(error)) return databaseUnavailable(error)
  return TEMPORARY.test(String(codeOf(error))) ? databaseBusy(error) : error
}

function databaseBusy(cause: unknown): RegistryError {
  return unavailable('the database of the registry cannot do this at the moment, try again', {
    retryAfterSeconds: TEMPORARY_RETRY_SECONDS,
    cause,
  })
}

function databaseUnavailable(cause: unknown): RegistryError {
  return unavailable('the registry cannot reach its database at the moment, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  })
}

/**
 * Throws when the server is unreachable or too old, or when a new database has another encoding than UTF-8. The message
 * is one line for operators.
 */
export async function checkPostgres(db: Queryable): Promise<void> {
  const { rows } = await db.query<{ version: string; encoding: string; isNew: boolean }>(
    `select current_setting('server_version_num') as version,
            current_setting('server_encoding') as encoding,
            to_regclass('schema_migrations') is null as "isNew"`,
  )
  const { version, encoding, isNew } = rows[0] ?? {}
  const major = Math.floor(Number(version) / 10_000)
  if (!(major >= POSTGRES_VERSION_MIN)) {
    throw new Error(`Postgres ${major} is too old: Rookery needs ${POSTGRES_VERSION_MIN} or newer`)
  }
  if (isNew && encoding !== 'UTF8') {
    throw new Error(
      `its encoding is ${encoding}, and must be UTF8: create database … encoding 'UTF8' template template0`,
    )
  }
}

/** Throws when the database does not answer. */
export async function checkAnswer(db: Queryable): Promise<void> {
  await db.query('select 1 as one')
}

function codeOf(error: unknown): unknown {
  return error instanceof pg.DatabaseError ? error.code : undefined
}

// Sizes and identities stay below 2^53, so a number is exact.
function typeParser(oid: number, format?: 'text' | 'binary'): (value: string) => unknown {
  return oid === INT8_OID ? Number : pg.types.getTypeParser(oid, format as 'text')
}
