/** The temporary folder of a bench. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of the project. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** The built server. */
export const BUILT_MAIN = join(ROOT, 'dist', 'main.js')

/** Creates a folder in `.cache/bench` or ROOKERY_BENCH_DIR. */
export function makeFolder(name: string): string {
  const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(ROOT, '.cache', 'bench'))
  mkdirSync(parent, { recursive: true })
  const folder = mkdtempSync(join(parent, `${name}-`))
  // Postgres does not run as root, and its user has to enter the folder.
  chmodSync(folder, 0o755)
  return folder
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
