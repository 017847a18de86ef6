import { join } from 'node:path'
import type { BlobStore } from '../../storage/blob-store.ts'
import { CommandError } from '../errors.ts'
import {
  DUMP_FILE,
  type Generation,
  hasDump,
  isComplete,
  listGenerations,
  listPartials,
  removePartial,
  unfinishGeneration,
} from './backup-folder.ts'
import { readDumpKeys } from './dump-file.ts'

/** The backups to keep: the newest ones, and the newest of each of the last days that have one. */
export type KeepRule = { readonly last: number; readonly daily: number }

export type Expired = {
  /** Names of the removed backups. */
  readonly removed: string[]
  /** Number of blobs that they alone named, and whose bytes were removed. */
  blobs: number
  /** Damaged files of the folder, one line each: nothing was removed then. */
  readonly problems: string[]
}

const DAY_CHARACTERS = '2026-11-30'.length
/** Keys in memory at once. For each group of so many, the dumps of all other backups are read. */
const KEYS_AT_ONCE_MAX = 500_000

/** Returns the names that the rule keeps. Days without a backup do not count, so that a wrong clock removes little. */
export function keptNames(
  names: readonly string[],
  { last, daily }: KeepRule,
): ReadonlySet<string> {
  const newestFirst = names.toSorted().reverse()
  const kept = new Set(newestFirst.slice(0, last))
  const days = new Set<string>()
  for (const name of newestFirst) {
    const day = name.slice(0, DAY_CHARACTERS)
    if (days.has(day) || days.size === daily) continue
    days.add(day)
    kept.add(name)
  }
  return kept
}

/**
 * Removes the backups that the rule does not keep; those with missing blobs do not count. `made` is the complete backup
 * that has just been verified, and stays. Backups of earlier releases stay as well.
 */
export async function expireGenerations(
  folder: string,
  store: BlobStore,
  rule: KeepRule,
  made: string,
): Promise<Expired> {
  const all = await listGenerations(folder)
  const own = all.filter(({ isEarlier }) => !isEarlier)
  const kept = keptNames(
    own.filter(isComplete).map(({ name }) => name),
    rule,
  )
  const expired: Expired = { removed: [], blobs: 0, problems: [] }
  const leaving = own.filter(({ name }) => !kept.has(name) && name !== made)
  if (leaving.length === 0) return expired
  for (const generation of all) {
    const problem = await findDamage(generation)
    if (problem !== undefined) expired.problems.push(problem)
  }
  // Without one of the lists it is unknown which blobs are needed.
  if (expired.problems.length > 0) return expired
  for (const generation of leaving) {
    expired.blobs += await discardPartial(folder, store, await unfinishGeneration(generation))
    expired.removed.push(generation.name)
  }
  return expired
}

/**
 * Removes what interrupted backups and interrupted expiry left, except `own`, the backup that is being made and has its dump: its
 * blobs stay. Returns the reasons for those that stay because a file is damaged.
 */
export async function discardPartials(
  folder: string,
  store: BlobStore,
  own: string,
): Promise<string[]> {
  const problems: string[] = []
  for (const partial of await listPartials(folder)) {
    if (partial === own) continue
    try {
      await discardPartial(folder, store, partial)
    } catch (error) {
      if (!(error instanceof CommandError)) throw error
      problems.push(`damaged ${error.message}`)
    }
  }
  return problems
}

/** Returns what is wrong with the summary, or with the list of blobs in the dump. */
async function findDamage({ path, summary, isEarlier }: Generation): Promise<string | undefined> {
  if (summary === undefined && !isEarlier)
    return `damaged ${path}: its summary is missing or damaged`
  try {
    for await (const _ of readDumpKeys(join(path, DUMP_FILE)));
    return undefined
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    return `damaged ${error.message}`
  }
}

/**
 * Removes the files of a backup without a name, and before them the blobs that it alone names. Returns the number of these.
 * Throws CommandError for a damaged dump, of this or of another backup: then it is unknown which blobs others need.
 */
async function discardPartial(folder: string, store: BlobStore, partial: string): Promise<number> {
  let removed = 0
  if (await hasDump(partial)) {
    const others = [
      ...(await listGenerations(folder)).map(({ path }) => path),
      ...(await listPartials(folder)).filter((path) => path !== partial),
    ]
    let keys = new Set<string>()
    for await (const key of readDumpKeys(join(partial, DUMP_FILE))) {
      keys.add(key)
      if (keys.size < KEYS_AT_ONCE_MAX) continue
      removed += await removeUnnamed(store, keys, others)
      keys = new Set()
    }
    removed += await removeUnnamed(store, keys, others)
  }
  await removePartial(partial)
  return removed
}

/** Removes the bytes of the keys that no dump in `others` names. */
async function removeUnnamed(
  store: BlobStore,
  keys: Set<string>,
  others: readonly string[],
): Promise<number> {
  for (const path of others) {
    if (!(await hasDump(path))) continue
    for await (const key of readDumpKeys(join(path, DUMP_FILE))) keys.delete(key)
  }
  for (const key of keys) await store.remove(key)
  return keys.size
}
