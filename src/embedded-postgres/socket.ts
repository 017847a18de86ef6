import { createHash } from 'node:crypto'
import { lchown, lstat, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { makePrivateFolder } from './cluster.ts'
import { EmbeddedPostgresError } from './errors.ts'
import type { OsUser } from './os-user.ts'
import { findRunningPostmaster } from './postmaster.ts'
import { PORT } from './settings.ts'

// `sun_path` without its final zero.
const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107

/** Returns the socket folder of the running postmaster, or a folder that only its user may enter. */
export async function chooseSocketFolder(
  folder: string,
  cluster: string,
  osUser: OsUser,
): Promise<string> {
  const running = await findRunningPostmaster(cluster)
  if (running !== undefined) return running.socketFolder
  const inside = join(folder, 'socket')
  if (fits(inside)) {
    await makePrivateFolder(inside, osUser)
    return inside
  }
  const short = join(
    tmpdir(),
    `rookery-${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`,
  )
  if (!fits(short)) {
    throw new EmbeddedPostgresError(
      `${folder} and ${tmpdir()} are both too long for the path of a Unix socket; set ROOKERY_DATA_DIR or TMPDIR to a shorter path`,
    )
  }
  await makePrivateInShared(short, osUser)
  return short
}

/** Makes a private folder in a shared parent, where another user may have created it first. */
async function makePrivateInShared(folder: string, osUser: OsUser): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    const found = await lstat(folder)
    const ours = [osUser.uid, process.getuid?.()].includes(found.uid)
    if (!ours || !found.isDirectory() || (found.mode & 0o077) !== 0) {
      throw new EmbeddedPostgresError(
        `${folder} belongs to another user, and Postgres needs it for its socket; remove it, or set ROOKERY_DATA_DIR to a shorter path`,
      )
    }
  }
  await lchown(folder, osUser.uid, osUser.gid)
}

function fits(folder: string): boolean {
  return Buffer.byteLength(join(folder, `.s.PGSQL.${PORT}`)) <= SOCKET_PATH_BYTES_MAX
}
