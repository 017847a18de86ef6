import { execFile } from 'node:child_process'
import { realpath, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'

/** As whom Postgres runs: as this process, as `nobody`, or as `nobody` that may pass closed folders. */
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
// One capability: to pass any folder and read any file, but not to write. Without `no_setuid_fixup`,
// access(2) would not count it. The shell is there because setpriv's own exec still lacks it.
const SETPRIV_ARGS = [
  ...['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'],
  ...['--securebits', '+no_setuid_fixup'],
  ...['--inh-caps', '+dac_read_search', '--ambient-caps', '+dac_read_search'],
  ...['--', '/bin/sh', '-c'],
]

const run = promisify(execFile)

/**
 * initdb and postgres refuse root, so root lends them the uid of `nobody`. Call it before the folder
 * exists; throws EmbeddedPostgresError when this user cannot run Postgres at all.
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

/** The same identity, with the capability to pass closed folders where `folder` is below one. */
export async function withFolderAccess(identity: OsUser, folder: string): Promise<OsUser> {
  const closed = await findClosedFolder(identity, folder)
  if (closed === undefined) return identity
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
      `Postgres cannot run as root, and as uid ${identity.uid} it may not pass ${closed} (${why}); set ROOKERY_DATA_DIR to a folder that everyone may pass, or ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
  return { ...identity, via: 'setpriv' }
}

/** The first folder on the way to `path` that this identity may not pass. */
export async function findClosedFolder(
  identity: OsUser,
  path: string,
): Promise<string | undefined> {
  if (identity.via !== 'spawn') return undefined
  const way: string[] = []
  for (let at = dirname(await realpath(path)); ; at = dirname(at)) {
    way.unshift(at)
    if (at === dirname(at)) break
  }
  for (const folder of way) {
    const { mode, uid, gid } = await stat(folder)
    const bit = uid === identity.uid ? 0o100 : gid === identity.gid ? 0o010 : 0o001
    if ((mode & bit) === 0) return folder
  }
  return undefined
}

/** How to run `binary` as `identity`. */
export function commandAs(identity: OsUser, binary: string, args: readonly string[]): Command {
  const options = {
    // A folder that every identity may stand in.
    cwd: '/',
    // Nothing else of our environment: PGPORT, LC_ALL or LD_LIBRARY_PATH would change the server.
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  }
  if (identity.via === 'self') return { command: binary, args, options }
  if (identity.via === 'spawn') {
    return { command: binary, args, options: { ...options, uid: identity.uid, gid: identity.gid } }
  }
  return {
    command: 'setpriv',
    args: [...SETPRIV_ARGS, 'exec "$0" "$@"', binary, ...args],
    options,
  }
}
