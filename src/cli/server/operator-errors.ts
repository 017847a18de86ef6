import { errnoOf } from '../../async/errno.ts'
import { ConfigError } from '../../config/config.ts'
import { describeDatabaseFault, isDatabaseFault } from '../../db/faults.ts'
import { AlreadyRunningError } from '../../db/maintenance/jobs.ts'
import { EmbeddedPostgresError } from '../../embedded-postgres/errors.ts'
import { RegistryError } from '../../oci/errors.ts'
import { StartError } from '../../server/cleanup.ts'
import { StoreFullError, StoreUnavailableError } from '../../storage/blob-store.ts'

const OPERATOR_ERRORS = [
  ConfigError,
  StartError,
  EmbeddedPostgresError,
  AlreadyRunningError,
  StoreUnavailableError,
  StoreFullError,
  RegistryError,
]

const FULL = 'free some space'
const DESCRIPTORS = 'raise the limit of open files (ulimit -n)'
const NOT_A_FOLDER = 'a file is in the place of a folder, or a folder in the place of a file'

/** Remedies of failed system calls. */
const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or folder, and none can be made there',
  EROFS: 'the file system is read-only: use another folder, or make it writable',
  ENOSPC: FULL,
  EDQUOT: FULL,
  EMFILE: DESCRIPTORS,
  ENFILE: DESCRIPTORS,
  ENOTDIR: NOT_A_FOLDER,
  EISDIR: NOT_A_FOLDER,
  EEXIST: NOT_A_FOLDER,
  ELOOP: 'links lead in a circle',
  ENAMETOOLONG: 'use a folder with a shorter name',
  EIO: 'the disk has failed',
}

/** Returns the message, one line, of a failure that an operator can mend; undefined for any other. */
export function operatorMessageOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  if (OPERATOR_ERRORS.some((kind) => error instanceof kind)) return error.message
  const remedy = 'syscall' in error ? findRemedy(errnoOf(error) ?? '') : undefined
  if (remedy !== undefined) return `${error.message}; ${remedy}`
  return isDatabaseFault(error) ? `the database: ${describeDatabaseFault(error)}` : undefined
}

function findRemedy(errno: string): string | undefined {
  if (errno !== 'EACCES' && errno !== 'EPERM') return REMEDIES[errno]
  return `uid ${process.getuid?.()} needs the right to do this; a command of root runs as the owner of the data folder`
}
