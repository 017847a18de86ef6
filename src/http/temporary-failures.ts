import { errnoOf } from '../async/errno.ts'
import { type RegistryError, unavailable } from '../oci/errors.ts'

const RETRY_AFTER_SECONDS = 10

/** System calls that fail until an operator or another program acts: disk, rights, descriptors and memory. */
const TEMPORARY: ReadonlySet<string> = new Set([
  ...['EACCES', 'EAGAIN', 'EBUSY', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE', 'ENODEV', 'ENOMEM'],
  ...['ENOSPC', 'ENOTCONN', 'ENXIO', 'EPERM', 'EROFS', 'ESTALE'],
])

/** Returns UNAVAILABLE for a failed system call that may succeed later; undefined for any other error. */
export function findTemporaryFailure(error: unknown): RegistryError | undefined {
  if (!TEMPORARY.has(errnoOf(error) ?? '')) return undefined
  return unavailable('the registry cannot use its files at the moment, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause: error,
  })
}
