import { createHash } from 'node:crypto'
import { chmod, chown, lstat, mkdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { findClosedFolder, findCurrentUser, type OsUser } from './os-user.ts'
import { findRunningPostmaster } from './postmaster.ts'
import { PORT, type RuntimeFiles, SUPERUSER, USER } from './settings.ts'
import { findEntry, replaceFile } from './small-file.ts'
import { removeTree } from './tree.ts'

// `sun_path` without its final zero.
const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107
const PREPARE_ATTEMPTS_MAX = 3

/**
 * Makes the socket folder, for the user of Postgres only (and root, who may enter every folder), and the access rules:
 * Postgres asks the kernel for the user of a client, and only the user of this process may connect.
 */
export async function prepareRuntime(
  folder: string,
  cluster: string,
  osUser: OsUser,
): Promise<RuntimeFiles> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await makeRuntime(folder, cluster, osUser)
    } catch (error) {
      // A rookery that stops took the folder away.
      if (errnoOf(error) !== 'ENOENT' || attempt === PREPARE_ATTEMPTS_MAX) throw error
    }
  }
}

async function makeRuntime(folder: string, cluster: string, osUser: OsUser): Promise<RuntimeFiles> {
  const short = await findShortFolder(folder, osUser)
  const files = short ?? folder
  // Our own lock file names the folder that a survivor took, with another TMPDIR. Root believes no file of Postgres.
  const running =
    osUser.via === 'self' ? await findRunningPostmaster({ uid: osUser.uid, cluster }) : undefined
  const socketFolder = running?.socketFolder || join(files, 'socket')
  if (running === undefined) await makeSocketFolder(socketFolder, osUser)
  const { name } = findCurrentUser()
  const runtime = {
    socketFolder,
    configFile: join(files, 'postgresql.conf'),
    hbaFile: join(files, 'pg_hba.conf'),
    identFile: join(files, 'pg_ident.conf'),
  }
  await writeForPostgres(
    runtime.configFile,
    '# The settings are arguments of the server.\n',
    osUser,
  )
  await writeForPostgres(runtime.hbaFile, 'local all all peer map=rookery\n', osUser)
  const lines = [SUPERUSER, USER].map((role) => `rookery "${name}" ${role}\n`)
  await writeForPostgres(runtime.identFile, lines.join(''), osUser)
  return runtime
}

/**
 * Removes the folders outside the data folder. Only the owner of a running Postgres calls it, before it stops that
 * Postgres: until then no other can start. A rename takes each folder away as a whole, so another rookery that
 * prepares to start finds either all files or none.
 */
export async function removeRuntime(folder: string, runtime: RuntimeFiles, osUser: OsUser) {
  for (const path of new Set([dirname(runtime.configFile), dirname(runtime.socketFolder)])) {
    if (path === folder || basename(path) !== nameOfShort(folder)) continue
    const aside = `${path}.${process.pid}.old`
    try {
      await rename(path, aside)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') continue
      throw error
    }
    if (osUser.via === 'spawn') await removeTree(aside)
    else await rm(aside, { recursive: true, force: true })
  }
}

async function writeForPostgres(path: string, text: string, { gid, via }: OsUser): Promise<void> {
  await replaceFile(path, text, 0o640)
  // A service that is confined may not call chown at all.
  if (via === 'spawn') await chown(path, -1, gid)
}

async function makeSocketFolder(folder: string, osUser: OsUser): Promise<void> {
  const found = await findEntry(folder)
  const isUsable = found?.isDirectory() && found.uid === osUser.uid
  if (found !== undefined && !isUsable) await removeTree(folder)
  if (!isUsable) await mkdir(folder, { mode: 0o700 })
  await chmod(folder, 0o700)
  if (osUser.via === 'spawn') await chown(folder, osUser.uid, osUser.gid)
}

/**
 * Makes a folder elsewhere when the path of the socket is too long, or the user of Postgres may not pass a folder above
 * it. Returns undefined when the folder itself is good.
 */
async function findShortFolder(folder: string, osUser: OsUser): Promise<string | undefined> {
  const closed = await findClosedFolder(osUser, join(folder, 'cluster'))
  if (closed === undefined && fits(folder)) return undefined
  const parent = await findSharedParent(osUser)
  const short = join(parent, nameOfShort(folder))
  if (!fits(short)) {
    throw new EmbeddedPostgresError(
      `${folder} and ${parent} are both too long for the path of a Unix socket; set ROOKERY_DATA_DIR or TMPDIR to a shorter path`,
    )
  }
  await makePrivateInShared(short, osUser)
  return short
}

function nameOfShort(folder: string): string {
  return `rookery-${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`
}

/** Root's folder for the files of running services, which only root may change; or else the temporary folder. */
async function findSharedParent({ via }: OsUser): Promise<string> {
  const run = via === 'spawn' ? await findEntry('/run') : undefined
  return run?.isDirectory() && run.uid === 0 && (run.mode & 0o022) === 0 ? '/run' : tmpdir()
}

/** Makes a private folder in a shared parent, where another user may have created it first. */
async function makePrivateInShared(folder: string, { gid, via }: OsUser): Promise<void> {
  const uid = process.getuid?.()
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
    const found = await lstat(folder)
    if (found.uid !== uid || !found.isDirectory() || (found.mode & 0o027) !== 0) {
      throw new EmbeddedPostgresError(
        `${folder} belongs to another user, and Postgres needs it for its socket; remove it, or set ROOKERY_DATA_DIR to a shorter path`,
      )
    }
  }
  if (via === 'self') return
  await chown(folder, -1, gid)
  await chmod(folder, 0o710)
}

function fits(folder: string): boolean {
  const socket = join(folder, 'socket', `.s.PGSQL.${PORT}`)
  return Buffer.byteLength(socket) <= SOCKET_PATH_BYTES_MAX
}
