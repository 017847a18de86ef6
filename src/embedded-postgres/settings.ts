/** The file name that Postgres and `pg` derive from it is `.s.PGSQL.5432`; nothing listens on TCP. */
export const PORT = 5432
export const USER = 'rookery'
export const DATABASE = 'rookery'

const IO_METHOD_SINCE = 18

/** What a server opens without being told otherwise, and what is left for its owner, commands and others. */
export const CONNECTIONS_DEFAULT = 12
const CONNECTIONS_BESIDE = 48

/**
 * The server's arguments. Settings stand on the command line, so neither the cluster's files nor
 * `alter system` change them; who wants to tune Postgres runs one of their own.
 *
 * Idle, all processes together and one connection take 14 MB of memory (Pss, Postgres 18); with
 * the settings that initdb chooses they take 24 MB.
 */
export function serverArguments(
  cluster: string,
  socketFolder: string,
  major: number,
  connectionsMax: number,
): string[] {
  const settings = {
    listen_addresses: '',
    port: PORT,
    // A list of names, so quoted: a folder may have a comma.
    unix_socket_directories: `"${socketFolder.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    max_connections: connectionsMax + CONNECTIONS_BESIDE,
    shared_buffers: '32MB',

    // What was acknowledged survives a power cut.
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    // Nobody replicates from here.
    wal_level: 'minimal',
    max_wal_senders: 0,
    // Recovery after a crash reads at most about this much.
    max_wal_size: '256MB',

    // Statements are short: no parallel queries, no compiler, no background helpers.
    max_worker_processes: 0,
    max_parallel_workers_per_gather: 0,
    max_parallel_maintenance_workers: 0,
    max_logical_replication_workers: 0,
    jit: 'off',
    autovacuum: 'on',
    autovacuum_max_workers: 2,
    ...(major >= IO_METHOD_SINCE ? { io_method: 'sync', autovacuum_worker_slots: 2 } : {}),

    timezone: 'UTC',
    log_timezone: 'UTC',
    // One line each on stderr, which the supervisor reads.
    logging_collector: 'off',
    log_destination: 'stderr',
    log_line_prefix: '',
    log_error_verbosity: 'terse',
    log_min_error_statement: 'panic',
    log_checkpoints: 'off',
    lc_messages: 'C',
  }
  const args = ['-D', cluster]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  return args
}
