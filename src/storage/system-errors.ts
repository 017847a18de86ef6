import { errnoOf } from '../async/errno.ts'

/** True when the file does not exist. */
export function isMissing(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT'
}

/** True when the path leads to nothing that can be read as a file. */
export function isNoFile(error: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EISDIR'].includes(errnoOf(error) ?? '')
}

/** True when the disk, the quota or the maximum size of a file is reached. */
export function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(errnoOf(error) ?? '')
}
