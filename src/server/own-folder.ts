import { chmod, lstat, mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { StartError } from './cleanup.ts'

const ROOT = 0
const WRITABLE_BY_OTHERS = 0o022

/**
 * Makes a folder for this user, or checks an existing one. As root, the folder and its entries must belong to root: root
 * would otherwise follow the links, and believe the files, of another user. Entries in `except` have checks of their own.
 * Throws StartError for a folder of another user, and the error of the system when the folder cannot be made.
 */
export async function makeOwnFolder(
  folder: string,
  mode: number,
  except: readonly string[] = [],
): Promise<void> {
  await mkdir(folder, { recursive: true, mode })
  if (process.getuid?.() !== ROOT) return
  const found = await stat(folder)
  if (found.uid !== ROOT) throw belongsToAnother(folder, found.uid)
  if ((found.mode & WRITABLE_BY_OTHERS) !== 0) await chmod(folder, found.mode & ~WRITABLE_BY_OTHERS)
  for (const name of await readdir(folder)) {
    const { uid } = await lstat(join(folder, name))
    if (uid !== ROOT && !except.includes(name)) throw belongsToAnother(join(folder, name), uid)
  }
}

function belongsToAnother(path: string, uid: number): StartError {
  return new StartError(
    `${path} belongs to uid ${uid}, and this is root: run rookery as that user (sudo -u '#${uid}' rookery …), or give the folder to root if nobody else may use it: chown -R root '${path}'`,
  )
}
