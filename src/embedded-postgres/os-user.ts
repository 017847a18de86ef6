import { realpath, stat } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { dirname } from 'node:path'
import { EmbeddedPostgresError } from './errors.ts'

/** The user that runs Postgres: our own (`self`), or, when we are root, a uid that nothing else uses (`spawn`). */
export type OsUser = {
  readonly uid: number
  readonly gid: number
  readonly via: 'self' | 'spawn'
}

export type Command = {
  readonly command: string
  readonly args: readonly string[]
  readonly options: { cwd: string; env: NodeJS.ProcessEnv; uid?: number; gid?: number }
}

export const ROOT = 0
/** The user `nobody`, whom many services share. */
export const NOBODY = 65_534

/** The user of this process. */
export type CurrentUser = { readonly uid: number; readonly gid: number; readonly name: string }

/** Returns the user of this process. Throws EmbeddedPostgresError when it cannot run Postgres. */
export function findCurrentUser(): CurrentUser {
  const uid = process.getuid?.()
  const gid = process.getgid?.()
  if (uid === undefined || gid === undefined) {
    throw new EmbeddedPostgresError(
      `the embedded Postgres does not run on ${process.platform}; set ROOKERY_DATABASE_URL to a Postgres of your own`,
    )
  }
  try {
    return { uid, gid, name: userInfo().username }
  } catch {
    throw new EmbeddedPostgresError(
      `uid ${uid} has no entry in /etc/passwd, and Postgres does not run without one; add the entry, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
    )
  }
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

/** Returns the command that runs `binary` as `osUser` in `cwd`. The child enters `cwd` before it leaves our user. */
export function commandAs(
  osUser: Pick<OsUser, 'uid' | 'gid' | 'via'>,
  binary: string,
  args: readonly string[],
  cwd: string,
): Command {
  const options = {
    cwd,
    // The rest of our environment is left out: PGPORT, LC_ALL or LD_LIBRARY_PATH would change the server.
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
  }
  if (osUser.via === 'self') return { command: binary, args, options }
  return { command: binary, args, options: { ...options, uid: osUser.uid, gid: osUser.gid } }
}
