import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Source } from './architecture.ts'
import { ROOT } from './tree.ts'

const READ = /^(?:src|test|docs|spec|bench|scripts|schema|changelog)\/|^[A-Z]+\.md$|^\.ci\//
/** Files of others, files that name the refused words, and data. */
const LEFT_OUT = /^test\/(?:fixtures|house)\/|^changelog\/|^spec\/events\.schema\.json$|\.svg$/

/** Returns every file whose words a person reads; paths from the root of the repository. */
export function readableFiles(): Source[] {
  return execFileSync('git', ['ls-files'], { cwd: ROOT, encoding: 'utf8' })
    .split('\n')
    .filter((path) => READ.test(path) && !LEFT_OUT.test(path))
    .map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }))
}
