import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Block, isScript, shellBlocksOf } from './pages.ts'
import { findPastedElsewhere } from './pasted-elsewhere.ts'

const PAGE_MILLISECONDS_MAX = 120_000
const PRINTED_BYTES_MAX = 8_000
const PRINTED_LINE_BYTES_MAX = 2_000
const END = '=== end of a block ==='

/** Parts of the clone that a page may write to, and that the fresh copy therefore has not. */
const NOT_COPIED = new Set(['.git', 'data', 'reports'])

/** Files that the replaced programs write. */
const OF_THE_TEST = new Set(['programs', 'server.pid', 'server.out', 'server.err'])

/** Programs that the machine of a test need not have. Each records its words, and refuses an empty one. */
export const FOREIGN_PROGRAMS = ['kubectl', 'pg_dump', 'rclone', 'systemctl', 'webhook']
const FOREIGN = `#!/bin/sh
for word; do [ "$word" ] || { echo "$0: an argument is empty" >&2; exit 2; }; done
echo "$(basename "$0") $*" >> "$FRESH_FOLDER/programs"
`
/** The npm of a fresh copy has its packages. `npm start` restarts the server, and returns when it listens. */
const NPM = `#!/bin/bash
set -eu
case $1 in
  ci) test -e package-lock.json ;;
  start) exec "$FRESH_FOLDER/fakes/start-server" ;;
  *) node -e 'const [, script] = process.argv.slice(1)[0] === "run" ? process.argv.slice(1) : ["", process.argv[1]]
    if (!(script in require("./package.json").scripts)) throw new Error(script + " is not a script")' "$@" ;;
esac
`
const START_SERVER = `#!/bin/bash
set -eu
cd "$FRESH_FOLDER"
if [ -e server.pid ]; then
  kill "$(cat server.pid)"
  while kill -0 "$(cat server.pid)" 2>/dev/null; do sleep 0.1; done
fi
: > server.out
node dist/main.js serve > server.out 2> server.err &
echo $! > server.pid
until grep -q '^Documentation: ' server.out; do
  kill -0 "$(cat server.pid)" || { cat server.err >&2; exit 1; }
  sleep 0.1
done
`

export type Pasted = {
  /** Standard output of each block. */
  readonly printed: readonly string[]
  /** The clone in which the blocks ran. */
  readonly folder: string
}

export type PasteOptions = {
  /** The port at which the registry of the page listens. */
  readonly port: number
  /** Values for variables that the page sets, beside HOST: each is set once. */
  readonly variables?: Readonly<Record<string, string>>
  /** The environment of the reader and of the server; `FRESH_FOLDER` in a value is the folder of the clone. */
  readonly environment?: Readonly<Record<string, string>>
  /** Folders with programs; by default those of PATH. */
  readonly programs?: readonly string[]
  /** Folders of the system, which become folders below the fresh one. */
  readonly systemFolders?: readonly string[]
  /** The blocks to paste; by default all that no other test pastes. */
  readonly blocks?: readonly Block[]
  /** How often the reader pastes all blocks. */
  readonly times?: number
  /** True when git must ignore each file that the page leaves in the clone. */
  readonly ignoresFiles?: boolean
  readonly check?: (pasted: Pasted) => Promise<void>
}

/**
 * Pastes the shell blocks of a page in order into one shell, in a fresh copy of the clone, beside a registry.
 * Fails at the first command that fails, and when a block prints more than a terminal can show.
 */
export async function pastePage(page: string, options: PasteOptions): Promise<void> {
  const { port, environment = {}, times = 1, check = async () => {} } = options
  const programs = options.programs ?? [process.env.PATH ?? '']
  const folder = await freshCopy(options.systemFolders)
  const initial = await readdir(folder)
  try {
    const { blocks = pastableBlocksOf(page) } = options
    const script = [
      'set -euo pipefail',
      ...(needsRegistry(blocks) ? ['npm start'] : []),
      ...Array.from({ length: times }, () => blocks)
        .flat()
        .flatMap(markedBlock),
    ].join('\n')
    const env = {
      PATH: [join(folder, 'fakes'), dirname(process.execPath), ...programs].join(':'),
      HOME: folder,
      FRESH_FOLDER: folder,
      ROOKERY_LISTEN: `127.0.0.1:${port}`,
      NO_PROXY: '127.0.0.1',
      ...Object.fromEntries(
        Object.entries(environment).map(([name, value]) => [
          name,
          value.replace('FRESH_FOLDER', () => folder),
        ]),
      ),
    }
    const ran = await runScript(withValues(page, script, options, folder), folder, env)
    const printed = ran.stdout.split(`${END}\n`)
    const last = printed.pop() ?? ''
    const failed = blocks[printed.length % blocks.length]
    expect(ran.failed, `${page}:${failed?.line}\n${last}${ran.stderr}`).toBe(false)
    for (const [index, text] of printed.entries()) {
      const place = `${page}:${blocks[index % blocks.length]?.line}`
      expect(text.length, place).toBeLessThan(PRINTED_BYTES_MAX)
      for (const line of text.split('\n')) {
        expect(line.length, place).toBeLessThan(PRINTED_LINE_BYTES_MAX)
      }
    }
    if (options.ignoresFiles === true) {
      expect(await listNotIgnored(folder, initial), `${page} writes what git sees`).toEqual([])
    }
    await check({ printed, folder })
  } finally {
    await stopServer(folder)
    await rm(folder, { recursive: true, force: true })
  }
}

/** Lists what the page added to its copy of the clone, and what git would show there. Hidden files are those of the home. */
async function listNotIgnored(folder: string, initial: readonly string[]): Promise<string[]> {
  const names = (await readdir(folder, { withFileTypes: true }))
    .filter(({ name }) => !initial.includes(name) && !name.startsWith('.'))
    .map((entry) => `${entry.name}${entry.isDirectory() ? '/' : ''}`)
    .filter((name) => !OF_THE_TEST.has(name))
  const words = ['check-ignore', '--no-index', '--', ...names]
  const ignored = names.length === 0 ? '' : spawnSync('git', words, { cwd: ROOT }).stdout.toString()
  return names.filter((name) => !ignored.split('\n').includes(name))
}

/** Lists the shell blocks of a page that this test pastes. */
export function pastableBlocksOf(page: string): Block[] {
  return shellBlocksOf(page).filter(
    (block) => !isScript(block) && findPastedElsewhere(block) === undefined,
  )
}

/** True for a page whose reader has started a registry before. */
function needsRegistry(blocks: readonly Block[]): boolean {
  const text = blocks.map((block) => block.text).join('')
  return /^rookery |\$HOST/m.test(text) && !/^npm start$/m.test(text)
}

function markedBlock({ text }: Block): string[] {
  return [text, `echo '${END}'`]
}

/** A copy of the clone whose parts are links, without data. */
async function freshCopy(systemFolders: readonly string[] = []): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-page-'))
  // Postgres may run as another user.
  chmodSync(folder, 0o755)
  for (const name of await readdir(ROOT)) {
    if (!NOT_COPIED.has(name)) await symlink(join(ROOT, name), join(folder, name))
  }
  const fakes = join(folder, 'fakes')
  await mkdir(fakes)
  for (const path of systemFolders) await mkdir(join(folder, 'system', path), { recursive: true })
  const programs = [
    ['npm', NPM],
    ['start-server', START_SERVER],
    ...FOREIGN_PROGRAMS.map((name) => [name, FOREIGN]),
  ]
  for (const [name = '', text = ''] of programs) {
    await writeFile(join(fakes, name), text, { mode: 0o755 })
  }
  return folder
}

/** Sets the variables of the page to values of this run. Throws when the page does not set one exactly once. */
function withValues(page: string, script: string, options: PasteOptions, folder: string): string {
  const { port, variables = {}, systemFolders = [], times = 1 } = options
  const values = { HOST: `127.0.0.1:${port}`, ...variables }
  let text = script
  for (const [name, value] of Object.entries(values)) {
    const assignment = new RegExp(`(?<=^|[\\s;])${name}=(?:'[^']*'|[^\\s;]+)`, 'gm')
    const found = text.match(assignment)?.length ?? 0
    if (found !== times && !(name === 'HOST' && found === 0)) {
      throw new Error(`${page} sets ${name} ${found / times} times`)
    }
    text = text.replace(assignment, () => `${name}='${value}'`)
  }
  for (const path of systemFolders) text = text.replaceAll(path, join(folder, 'system', path))
  return text
}

type Ran = { readonly failed: boolean; readonly stdout: string; readonly stderr: string }

function runScript(script: string, cwd: string, env: Record<string, string>): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { cwd, env, timeout: PAGE_MILLISECONDS_MAX, maxBuffer: 16 * 1024 * 1024 }
    const child = execFile('bash', ['-c', script], options, (error, stdout, stderr) =>
      resolve({ failed: error !== null, stdout, stderr: `${stderr}${error?.signal ?? ''}` }),
    )
    child.stdin?.end()
  })
}

async function stopServer(folder: string): Promise<void> {
  const file = join(folder, 'server.pid')
  if (!existsSync(file)) return
  const pid = Number(readFileSync(file, 'utf8'))
  if (!isRunning(pid)) return
  process.kill(pid, 'SIGTERM')
  await waitUntil(() => !isRunning(pid))
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
