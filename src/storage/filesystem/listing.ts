import type { Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { UUID_PATTERN } from '../../oci/uuid.ts'
import type { StoredObject } from '../blob-store.ts'
import { isStorageKey, MARK_NAME, uploadIdOf } from '../storage-key.ts'
import { isMissing } from '../system-errors.ts'

const BLOBS = 'blobs/'
const MARK = `${BLOBS}${MARK_NAME}`
const UPLOAD_ID = new RegExp(UUID_PATTERN)

/**
 * Lists the files in and below `folders` after the name `after`, in the order of names. Keeps the names of
 * one folder in memory at a time, and leaves out files that are removed meanwhile.
 */
export async function* listFiles(
  root: string,
  folders: readonly string[],
  after: string,
): AsyncGenerator<StoredObject> {
  for (const folder of folders) yield* filesBelow(root, folder, after)
}

async function* filesBelow(
  root: string,
  folder: string,
  after: string,
): AsyncGenerator<StoredObject> {
  for (const entry of await entriesOf(join(root, folder))) {
    const name = `${folder}/${entry.name}`
    if (name === MARK) continue
    if (entry.isDirectory()) {
      // The names of everything in a folder begin with its name and a slash.
      if (`${name}/` > after || after.startsWith(`${name}/`)) yield* filesBelow(root, name, after)
    } else if (name > after) {
      const file = await fileOf(root, name)
      if (file !== undefined) yield file
    }
  }
}

async function entriesOf(path: string): Promise<Dirent[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function fileOf(root: string, name: string): Promise<StoredObject | undefined> {
  try {
    const { size, ctimeMs } = await stat(join(root, name))
    const path = name.startsWith(BLOBS) ? name.slice(BLOBS.length) : undefined
    const key = path !== undefined && isStorageKey(path) ? path : undefined
    const upload = key === undefined ? UPLOAD_ID.exec(name)?.[0] : uploadIdOf(key)
    // The time of the last change, which is the rename into place; the bytes are older.
    return { name, key, upload, size, modifiedAt: new Date(ctimeMs) }
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
