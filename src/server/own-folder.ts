import { execFile } from 'node:child_process'
import { chmod, lstat, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import { StartError } from './cleanup.ts'

const ROOT = 0
/** Former releases ran Postgres as `nobody`, whom many services share. */
const NOBODY = 65_534
const WRITABLE_BY_OTHERS = 0o022
const ID_MILLISECONDS_MAX = 5_000
/** Entries of a data folder that the user of the server owns. */
const ENTRIES_OF_SERVER = ['postgres', 'blobs']

/**
 * Makes a folder for this user, or checks an existing one. As root, the folder and its entries must belong to root: root
 * would otherwise follow the links, and believe the files, of another user. Entries in `except` have checks of their own.
 * Throws StartError for a folder of another user, before it changes anything, and the error of the system when the folder
 * cannot be made.
 */
export async function makeOwnFolder(
  folder: string,
  mode: number,
  except: readonly string[] = [],
): Promise<void> {
  await makeFolders(folder, mode)
  if (process.getuid?.() !== ROOT) return
  const found = await assertOwnEntries(folder, except)
  if ((found.mode & WRITABLE_BY_OTHERS) === 0) return
  await chmod(folder, found.mode & ~WRITABLE_BY_OTHERS)
  // Until here others could add entries.
  await assertOwnEntries(folder, except)
}

/**
 * Checks an existing folder as `makeOwnFolder` does, and changes nothing. A missing folder is fine. Throws StartError.
 */
export async function assertOwnFolder(folder: string, except: readonly string[]): Promise<void> {
  if (process.getuid?.() !== ROOT || (await findOwner(folder)) === undefined) return
  const { mode } = await assertOwnEntries(folder, except)
  if ((mode & WRITABLE_BY_OTHERS) === 0) return
  throw new StartError(
    `other users may change entries of ${folder}, and root would follow them; run: chmod go-w '${folder}'`,
  )
}

async function assertOwnEntries(folder: string, except: readonly string[]) {
  const found = await stat(folder)
  if (found.uid !== ROOT) throw belongsToAnother(folder, found.uid)
  for (const name of await readdir(folder)) {
    const { uid } = await lstat(join(folder, name))
    if (uid !== ROOT && !except.includes(name)) throw belongsToAnother(join(folder, name), uid)
  }
  return found
}

/** Makes a folder and the folders above it. Node's own way (`recursive`) never ends below /proc. */
async function makeFolders(folder: string, mode: number): Promise<void> {
  const missing: string[] = []
  for (let at = resolve(folder); !(await exists(at)); at = dirname(at)) missing.unshift(at)
  for (const path of missing) {
    try {
      await mkdir(path, { mode })
    } catch (error) {
      // Another start was faster.
      if (errnoOf(error) !== 'EEXIST') throw error
    }
  }
  // Throws ENOTDIR for a file.
  await readdir(folder)
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

/**
 * As root, becomes the user who owns an existing data folder, as `sudo -u` does: files that this process then makes there
 * belong to the server, and it follows no link with the rights of root. Throws StartError when that is not possible.
 */
export async function becomeOwnerOf(dataFolder: string): Promise<void> {
  if (process.getuid?.() !== ROOT) return
  const owners = [dataFolder, ...ENTRIES_OF_SERVER.map((name) => join(dataFolder, name))]
  for (const path of owners) {
    const uid = await findOwner(path)
    if (uid === undefined || uid === ROOT || uid === NOBODY) continue
    try {
      const groups = await groupsOf(uid)
      process.setgroups?.(groups)
      process.setgid?.(groups[0] ?? uid)
      process.setuid?.(uid)
    } catch (cause) {
      throw belongsToAnother(path, uid, cause)
    }
    return
  }
}

async function findOwner(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).uid
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined
    throw new StartError(
      `cannot use ${path} (${errnoOf(cause) ?? 'unknown reason'}): set ROOKERY_DATA_DIR to the data folder of the registry`,
      { cause },
    )
  }
}

/** Returns the groups of a user, the primary one first. */
async function groupsOf(uid: number): Promise<number[]> {
  const options = { timeout: ID_MILLISECONDS_MAX }
  const { stdout } = await promisify(execFile)('id', ['-G', String(uid)], options)
  return stdout.trim().split(' ').map(Number)
}

function belongsToAnother(path: string, uid: number, cause?: unknown): StartError {
  return new StartError(
    `${path} belongs to uid ${uid}, and this is root: run rookery as that user (sudo -u '#${uid}' rookery …), or give the folder to root if nobody else may use it: chown -R root '${path}'`,
    { cause },
  )
}
