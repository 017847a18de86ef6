import { execFile } from 'node:child_process'
import { realpath, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'

/** The user that runs Postgres: our own, `nobody`, or `nobody` with the capability to pass closed folders. */
export type OsUser = {
  readonly uid: number
  readonly gid: number
  readonly via: 'self' | 'spawn' | 'setpriv'
}

export type Command = {
  readonly command: string
  readonly args: readonly string[]
  readonly options: { cwd: string; env: NodeJS.ProcessEnv; uid?: number; gid?: number }
}

const NOBODY = 65_534
const PROBE_MILLISECONDS_MAX = 5_000
// One capability: to pass any folder and read any file, but not to write. access(2) ignores it without
// `no_setuid_fixup`. The shell is needed because setpriv's own exec does not have the capability yet.
const SETPRIV_ARGS = [
  ...['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'],
  ...['--securebits', '+no_setuid_fixup'],
  ...['--inh-caps', '+dac_read_search', '--ambient-caps', '+dac_read_search'],
  ...['--', '/bin/sh', '-c'],
]

const run = promisify(execFile)

/**
 * Chooses the user of Postgres: initdb and postgres refuse root, so root runs them as `nobody`. Called
 * before the folder exists. Throws EmbeddedPostgresError when this user cannot run Postgres.
 */
export function chooseOsUser(): OsUser {
  const uid = process.getuid?.()
  const gid = process.getgid?.()
  if (uid === undefined || gid === undefined) {
    throw new EmbeddedPostgresError(
      `the embedded Postgres does not run on ${process.platform}; set ROOKERY_DATABASE_URL to a Postgres of your own`,
    )
  }
  if (uid === 0) return { uid: NOBODY, gid: NOBODY, via: 'spawn' }
  try {
    userInfo()
  } catch {
    throw new EmbeddedPostgresError(
      `uid ${uid} has no entry in /etc/passwd, and Postgres does not run without one; add the entry, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
    )
  }
  return { uid, gid, via: 'self' }
}

/** Returns the user, with the capability to pass closed folders when `folder` is below one. */
export async function withFolderAccess(osUser: OsUser, folder: string): Promise<OsUser> {
  const closed = await findClosedFolder(osUser, folder)
  if (closed === undefined) return osUser
  try {
    await run('setpriv', [...SETPRIV_ARGS, 'test -x "$0" && test -r "$0"', folder], {
      cwd: '/',
      timeout: PROBE_MILLISECONDS_MAX,
    })
  } catch (cause) {
    const why =
      errnoOf(cause) === 'ENOENT'
        ? 'setpriv is not installed'
        : `setpriv failed: ${messageOf(cause).trim().split('\n').at(-1)}`
    throw new EmbeddedPostgresError(
      `Postgres cannot run as root, and as uid ${osUser.uid} it may not pass ${closed} (${why}); set ROOKERY_DATA_DIR to a folder that everyone may pass, or ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
  return { ...osUser, via: 'setpriv' }
}

/** Finds the first folder of `path` that the user may not pass. */
export async function findClosedFolder(osUser: OsUser, path: string): Promise<string | undefined> {
  if (osUser.via !== 'spawn') return undefined
  const way: string[] = []
  for (let at = dirname(await realpath(path)); ; at = dirname(at)) {
    way.unshift(at)
    if (at === dirname(at)) break
  }
  for (const folder of way) {
    const { mode, uid, gid } = await stat(folder)
    const bit = uid === osUser.uid ? 0o100 : gid === osUser.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) return folder
  }
  return undefined
}

/** Returns the command that runs `binary` as `osUser`. */
export function commandAs(osUser: OsUser, binary: string, args: readonly string[]): Command {
  const options = {
    // Every user may enter this folder.
    cwd: '/',
    // The rest of our environment is left out: PGPORT, LC_ALL or LD_LIBRARY_PATH would change the server.
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  }
  if (osUser.via === 'self') return { command: binary, args, options }
  if (osUser.via === 'spawn') {
    return { command: binary, args, options: { ...options, uid: osUser.uid, gid: osUser.gid } }
  }
  return {
    command: 'setpriv',
    args: [...SETPRIV_ARGS, 'exec "$0" "$@"', binary, ...args],
    options,
  }
}
