/** Builds of earlier commits, to compare with. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const LOCK = 'package-lock.json'
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024

/** Returns the commit that a name has, such as `HEAD~1`. Throws when there is none. */
export function commitOf(name: string): string {
  try {
    return run('git', ['rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`])
  } catch {
    throw new Error(`--against ${name}: no commit has this name`)
  }
}

/**
 * Builds a commit in a folder of its own below `folder`, and returns its main file. Its packages are those of its lock file. A second
 * call finds the build of the first one; that of another commit is removed.
 */
export function buildOf(commit: string, folder: string): string {
  const builds = join(folder, 'builds')
  const tree = join(builds, commit)
  const main = join(tree, 'dist', 'main.js')
  if (existsSync(main)) return main
  rmSync(builds, { recursive: true, force: true })
  mkdirSync(tree, { recursive: true })
  const archive = join(builds, 'tree.tar')
  run('git', ['archive', '--output', archive, commit])
  run('tar', ['-xf', archive, '-C', tree])
  rmSync(archive)
  const lockOf = (at: string) => readFileSync(join(at, LOCK), 'utf8')
  if (lockOf(tree) === lockOf(ROOT)) {
    symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
  } else {
    run('npm', ['ci', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'], tree)
  }
  run(process.execPath, ['scripts/build.mjs'], tree)
  return main
}

function run(program: string, words: readonly string[], cwd = ROOT): string {
  const stdio = ['ignore', 'pipe', 'pipe'] as const
  const options = { cwd, encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX } as const
  return execFileSync(program, words, { ...options, stdio: [...stdio] }).trim()
}
