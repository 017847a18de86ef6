import { chmod, copyFile, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { ADMIN_PASSWORD_FILE } from '../../server/admin-password.ts'
import { MASTER_KEY_FILE } from '../../server/signing-keys.ts'
import { syncFolder } from '../../storage/filesystem/files.ts'
import { CommandError } from '../errors.ts'
import { readDumpHeader } from './dump-file.ts'

/*
 * The folder of the backups of one registry. They share the bytes of blobs, so that each adds only new ones.
 *
 *     blobs/sha256/ab/abcd….0b5e8a0e-…            as in the data folder
 *     uploads/                                    bytes that are being copied
 *     generations/2026-11-30T15-16-34Z/           one backup
 *         database.jsonl.gz                       the dump
 *         admin-password, master-key              from the data folder
 *         backup.json                             the summary
 *     generations/2026-11-30T16-16-34Z.partial/   one that is being made or removed, or was interrupted
 *
 * A backup of an earlier release has its files in the folder itself, without a summary.
 */

export const DUMP_FILE = 'database.jsonl.gz'
export const SECRET_FILES: readonly string[] = [ADMIN_PASSWORD_FILE, MASTER_KEY_FILE]
const SUMMARY_FILE = 'backup.json'
const GENERATIONS_FOLDER = 'generations'
const PARTIAL = '.partial'
const NAME = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ$/
const OWNER_ONLY = 0o600
const OWNER_ONLY_FOLDER = 0o700
/** Seconds by which a name may differ from its time, because backups of the same second have other names. */
const NAME_ATTEMPTS_MAX = 60

/** The file `backup.json` of a finished backup. */
export type BackupSummary = {
  readonly rookery: 'backup'
  readonly version: 1
  readonly takenAt: string
  /** The id of the installation. */
  readonly installation: string
  readonly rows: number
  readonly blobs: number
  readonly bytes: number
  /** Blobs that the registry had lost before: the backup has no bytes of them. */
  readonly lost: number
  /** Other blobs whose bytes could not be copied: a restore refuses the backup. */
  readonly missing: number
  /** The secret files of the backup. */
  readonly files: readonly string[]
}

/** One backup of a folder. */
export type Generation = {
  /** The time of its snapshot in UTC, which sorts. */
  readonly name: string
  /** The folder of its files. */
  readonly path: string
  /** Undefined for a backup of an earlier release, and when the file is damaged. */
  readonly summary: BackupSummary | undefined
  /** True for a backup of an earlier release. */
  readonly isEarlier: boolean
}

/** The name of a backup that is taken at this time: 2026-11-30T15-16-34Z. */
export function nameOfTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replaceAll(':', '-')}Z`
}

/** True when a restore accepts the backup, as far as its summary says. */
export function isComplete({ summary, isEarlier }: Generation): boolean {
  return isEarlier || summary?.missing === 0
}

/** Lists the finished backups of a folder, the oldest first. */
export async function listGenerations(folder: string): Promise<Generation[]> {
  const found: Generation[] = []
  const earlier = await findEarlier(folder)
  if (earlier !== undefined) found.push(earlier)
  for (const name of await namesIn(join(folder, GENERATIONS_FOLDER))) {
    if (!NAME.test(name)) continue
    const path = join(folder, GENERATIONS_FOLDER, name)
    found.push({ name, path, summary: await readSummary(path), isEarlier: false })
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Returns the backup with this name, or the newest complete one. Throws CommandError. */
export async function findGeneration(folder: string, name?: string): Promise<Generation> {
  const all = await listGenerations(folder)
  const found = name === undefined ? all.findLast(isComplete) : all.find((one) => one.name === name)
  if (found !== undefined) return found
  const partial = (await listPartials(folder)).length
  const others = all.map((one) => one.name).join(', ')
  const interrupted = partial === 0 ? '' : `${partial} that did not end`
  const there = [others, interrupted].filter((text) => text !== '').join(', and ')
  const wanted = name === undefined ? 'no complete backup' : `no backup ${name}`
  throw new CommandError(`${folder} has ${wanted}${there === '' ? '' : `; it has ${there}`}`)
}

/** Lists the paths of backups that are being made or removed, or were interrupted. */
export async function listPartials(folder: string): Promise<string[]> {
  const isPartial = (name: string) =>
    name.endsWith(PARTIAL) && NAME.test(name.slice(0, -PARTIAL.length))
  const names = await namesIn(join(folder, GENERATIONS_FOLDER))
  return names.filter(isPartial).map((name) => join(folder, GENERATIONS_FOLDER, name))
}

/** Makes the folder of a backup that begins now; `finishGeneration` gives it its name. */
export async function beginGeneration(
  folder: string,
  takenAt: Date,
): Promise<{ name: string; partial: string }> {
  const generations = join(folder, GENERATIONS_FOLDER)
  await mkdir(generations, { recursive: true, mode: OWNER_ONLY_FOLDER })
  const present = new Set(await namesIn(generations))
  for (let second = 0; second < NAME_ATTEMPTS_MAX; second += 1) {
    const name = nameOfTime(new Date(takenAt.getTime() + second * 1000))
    if (present.has(name) || present.has(`${name}${PARTIAL}`)) continue
    const partial = join(generations, `${name}${PARTIAL}`)
    await mkdir(partial, { mode: OWNER_ONLY_FOLDER })
    return { name, partial }
  }
  throw new CommandError(`${generations} has a backup of each second of this minute: try again`)
}

/** Writes the summary durably, and gives the backup its name. Returns its path. */
export async function finishGeneration(partial: string, summary: BackupSummary): Promise<string> {
  const file = await open(join(partial, SUMMARY_FILE), 'w', OWNER_ONLY)
  try {
    await file.writeFile(`${JSON.stringify(summary)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await syncFolder(partial)
  const path = partial.slice(0, -PARTIAL.length)
  await rename(partial, path)
  await syncFolder(join(path, '..'))
  return path
}

/** Takes the name from a backup that is to be removed: it is no backup any more, also after a crash. Returns its path. */
export async function unfinishGeneration({ path }: Generation): Promise<string> {
  const partial = `${path}${PARTIAL}`
  await rename(path, partial)
  await syncFolder(join(path, '..'))
  return partial
}

/** Removes the files that a backup wrote, and the folder unless it has others. The blobs of its dump are gone before. */
export async function removePartial(partial: string): Promise<void> {
  for (const name of [DUMP_FILE, SUMMARY_FILE, ...SECRET_FILES]) {
    await rm(join(partial, name), { force: true })
    await rm(join(partial, `${name}${PARTIAL}`), { force: true })
  }
  if ((await namesIn(partial)).length === 0) await rm(partial, { recursive: true })
}

/** True when the dump of a backup that did not end was complete, so that blobs may have been copied. */
export async function hasDump(path: string): Promise<boolean> {
  return (await sizeOf(join(path, DUMP_FILE))) !== undefined
}

/**
 * Copies the admin password, whose hash alone is in the database, and the key that decrypts the secrets of webhooks, when
 * the data folder has them. Returns their names.
 */
export async function copySecrets(dataFolder: string, path: string): Promise<string[]> {
  const copied: string[] = []
  for (const name of SECRET_FILES) {
    try {
      await copyDurably(join(dataFolder, name), join(path, name))
      copied.push(name)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
    }
  }
  return copied
}

/** Copies a file for its owner only, beside its place and then into it: it is never there without its bytes. */
export async function copyDurably(from: string, to: string): Promise<void> {
  const aside = `${to}${PARTIAL}`
  await copyFile(from, aside)
  await chmod(aside, OWNER_ONLY)
  const file = await open(aside, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(aside, to)
}

/** Returns the size of a file; undefined when it is missing. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function findEarlier(folder: string): Promise<Generation | undefined> {
  if (!(await hasDump(folder))) return undefined
  const { takenAt } = await readDumpHeader(join(folder, DUMP_FILE))
  return { name: nameOfTime(new Date(takenAt)), path: folder, summary: undefined, isEarlier: true }
}

async function readSummary(path: string): Promise<BackupSummary | undefined> {
  try {
    const summary = JSON.parse(await readFile(join(path, SUMMARY_FILE), 'utf8')) as BackupSummary
    return summary.rookery === 'backup' && summary.version === 1 ? summary : undefined
  } catch (error) {
    if (error instanceof SyntaxError || errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
