import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { rookery } from '../cli/rookery.ts'
import { digestOf } from '../support/digest.ts'
import type { TestRegistry } from '../support/registry.ts'

export type MadeBackup = {
  readonly name: string
  readonly blobs: number
  readonly present: number
  readonly lost: number
  readonly failures: readonly { readonly digest: string; readonly reason: string }[]
  readonly removed: readonly string[]
  readonly problems: readonly string[]
}

/** Makes a backup, which must end with this status. */
export async function backUp(
  registry: Pick<TestRegistry, 'settings'>,
  folder: string,
  words: readonly string[] = [],
  status = 0,
): Promise<MadeBackup> {
  const ran = await rookery(registry, ['backup', '--to', folder, '--json', ...words])
  expect(ran.status, ran.stderr).toBe(status)
  return JSON.parse(ran.stdout)
}

/** The names of the finished and unfinished backups of a folder. */
export async function backupsIn(folder: string): Promise<string[]> {
  return (await readdir(join(folder, 'generations'))).sort()
}

/** The path of a file of a backup. */
export const fileOf = (folder: string, name: string, file: string) =>
  join(folder, 'generations', name, file)

/** The names of all files in and below a folder, sorted. */
export async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort()
}

/** The files with the bytes of these digests in a folder of backups. The names are those of the store, which need not say it. */
export async function blobFiles(folder: string, digests: readonly string[]): Promise<string[]> {
  const found: string[] = []
  for (const file of await filesBelow(join(folder, 'blobs'))) {
    if (digests.includes(digestOf(await readFile(join(folder, 'blobs', file))))) found.push(file)
  }
  return found
}
