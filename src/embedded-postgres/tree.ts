import { chmodSync, lchownSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbeddedPostgresError } from './errors.ts'
import { type OsUser, ROOT } from './os-user.ts'
import { listPids, namesIn } from './processes.ts'

type Entry = { readonly path: string; readonly problem: string | undefined }

/**
 * Gives a folder and everything in it to a user. Only root may change the folder that contains it. Throws
 * EmbeddedPostgresError, and changes no file, when the folder has a link or another thing that Postgres does not make,
 * or when a process has a file of it open.
 */
export function giveTree(top: string, osUser: OsUser): void {
  const entries = lockTree(top)
  const wrong = entries.find(({ problem }) => problem !== undefined)
  if (wrong !== undefined) {
    throw new EmbeddedPostgresError(
      `${wrong.path} ${wrong.problem}, which Postgres does not make; move it away`,
    )
  }
  const holder = findHolder(top)
  if (holder !== undefined) {
    throw new EmbeddedPostgresError(
      `process ${holder} has files of ${top} open; stop it and start again`,
    )
  }
  // The top is last: its owner shows that everything below has changed its owner.
  for (const { path } of entries.reverse()) lchownSync(path, osUser.uid, osUser.gid)
  lchownSync(top, osUser.uid, osUser.gid)
}

/** Deletes a folder that another user may still write to. Only root may change the folder that contains it. */
export async function removeTree(top: string): Promise<void> {
  if (lstatSync(top).isDirectory()) lockTree(top)
  await rm(top, { recursive: true, force: true })
}

/**
 * Takes the folders from their owners, from top to bottom: once a folder is root's, nobody can exchange its entries for
 * links. Returns all entries.
 */
function lockTree(top: string): Entry[] {
  const entries: Entry[] = []
  const folders = [top]
  for (const folder of folders) {
    lchownSync(folder, ROOT, ROOT)
    if (!lstatSync(folder).isDirectory()) throw new EmbeddedPostgresError(`${folder} is no folder`)
    chmodSync(folder, 0o700)
    for (const name of readdirSync(folder)) {
      const path = join(folder, name)
      const found = lstatSync(path)
      if (found.isDirectory()) folders.push(path)
      entries.push({ path, problem: problemOf(found) })
    }
  }
  return entries
}

function problemOf(found: ReturnType<typeof lstatSync>): string | undefined {
  if (found === undefined || found.isDirectory()) return undefined
  if (found.isSymbolicLink()) return 'is a symbolic link'
  if (!found.isFile()) return 'is no regular file'
  return found.nlink > 1 ? 'has a second name (a hard link)' : undefined
}

/** The pid of a process that has a file below `top` open or mapped. */
function findHolder(top: string): string | undefined {
  return listPids().find((pid) => filesOf(pid).some((file) => file.startsWith(`${top}/`)))
}

function filesOf(pid: string): string[] {
  const open = namesIn(`/proc/${pid}/fd`).map((fd) =>
    attempt(() => readlinkSync(`/proc/${pid}/fd/${fd}`)),
  )
  // |from-to rights offset device inode  path|
  const mapped = attempt(() => readFileSync(`/proc/${pid}/maps`, 'utf8'))
  return [...open, ...mapped.split('\n').map((line) => line.slice(Math.max(0, line.indexOf('/'))))]
}

// The process may end meanwhile.
function attempt(read: () => string): string {
  try {
    return read()
  } catch {
    return ''
  }
}
