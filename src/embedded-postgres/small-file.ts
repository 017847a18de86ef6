import { constants } from 'node:fs'
import { type FileHandle, lstat, open, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError } from './errors.ts'

const FILE_BYTES_MAX = 4096
// A link is not followed, and opening a pipe does not wait for its writer.
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/**
 * Reads a small file that another user may have replaced: it must be a regular file, without a second name, of one
 * of the owners. Returns undefined when there is none. Throws EmbeddedPostgresError.
 */
export async function readSmallFile(
  path: string,
  owners: readonly (number | undefined)[],
): Promise<string | undefined> {
  let file: FileHandle
  try {
    file = await open(path, FLAGS)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    if (errnoOf(error) === 'ELOOP') throw unexpected(path, 'is a symbolic link')
    throw error
  }
  try {
    const found = await file.stat()
    if (!found.isFile()) throw unexpected(path, 'is no regular file')
    if (!owners.includes(found.uid)) throw unexpected(path, `belongs to uid ${found.uid}`)
    if (found.nlink !== 1 || found.size > FILE_BYTES_MAX)
      throw unexpected(path, 'has a second name, or is too large')
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

/** Writes a file beside and moves it into place, so that neither links nor old content stay. */
export async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const aside = `${path}.${process.pid}.new`
  await writeFile(aside, text, { mode, flag: 'w' })
  await rename(aside, path)
}

/** Returns what a path names, without following a link; undefined when it names nothing. */
export async function findEntry(path: string) {
  try {
    return await lstat(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

function unexpected(path: string, why: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `${path} ${why}, so it is not the file that rookery or Postgres made; move it away, or restore the folder ${dirname(path)}`,
  )
}
