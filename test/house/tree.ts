import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Source } from './architecture.ts'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/**
 * Returns the files below a folder of the repository with this ending; paths are relative to the
 * folder.
 */
export function filesBelow(folder: string, ending: string): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith(ending))
    .map((path) => ({ path, text: readFileSync(join(ROOT, folder, path), 'utf8') }))
}

/** Returns the TypeScript files below a folder, those with JSX, too. */
export function codeBelow(folder: string): Source[] {
  return [...filesBelow(folder, '.ts'), ...filesBelow(folder, '.tsx')]
}

/** Folders of the pages for users, operators and contributors. */
const PAGE_FOLDERS = ['', 'docs', 'spec', 'bench']

/** Lists the pages, as paths below the root of the repository. */
export function listPages(): string[] {
  return PAGE_FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  )
}

/** Returns the text of a page. */
export function readPage(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8')
}
