/** The folder of the socket, and the files that say who may connect. Postgres may read and not write them. */
export type RuntimeFiles = {
  readonly socketFolder: string
  readonly configFile: string
  readonly hbaFile: string
  readonly identFile: string
}

/** Postgres and `pg` derive the socket's file name from it: `.s.PGSQL.5432`. Nothing listens on TCP. */
export const PORT = 5432
/** The role of rookery and its commands: the owner of its database, without any other right. */
export const USER = 'rookery'
/** The superuser, for the supervisor alone. */
export const SUPERUSER = 'rookery_supervisor'
export const DATABASE = 'rookery'

const IO_METHOD_SINCE = 18

/** The connections of a server by default, and those reserved for its owner, commands and others. */
export const CONNECTIONS_DEFAULT = 12
const CONNECTIONS_BESIDE = 48

/**
 * Returns the arguments of the server. Settings on the command line override the cluster's files and
 * `alter system`. Operators who want to tune Postgres run their own.
 *
 * An idle server with one connection takes 14 MB of memory (Pss of all processes, Postgres 18); with the
 * settings that initdb chooses it takes 24 MB.
 */
export function serverArguments(
  data: string,
  { socketFolder, configFile, hbaFile, identFile }: RuntimeFiles,
  major: number,
  connectionsMax: number,
): string[] {
  const settings = {
    config_file: configFile,
    hba_file: hbaFile,
    ident_file: identFile,
    listen_addresses: '',
    port: PORT,
    // Quoted, because the setting is a list and a folder's name may contain a comma.
    unix_socket_directories: `"${socketFolder.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    max_connections: connectionsMax + CONNECTIONS_BESIDE,
    shared_buffers: '32MB',

    // Acknowledged writes survive a power cut.
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    // There are no replicas.
    wal_level: 'minimal',
    max_wal_senders: 0,
    // Recovery after a crash reads at most about this size.
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
    // One line a message on stderr, which the supervisor reads.
    logging_collector: 'off',
    log_destination: 'stderr',
    log_line_prefix: '',
    log_error_verbosity: 'terse',
    log_min_error_statement: 'panic',
    log_checkpoints: 'off',
    lc_messages: 'C',
  }
  const args = ['-D', data]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  return args
}
