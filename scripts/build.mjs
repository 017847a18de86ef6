#!/usr/bin/env node
// Builds src into dist: removes the types, compiles the JSX of pages, and names the files of imports .js in place of .ts and
// .tsx. Does nothing when dist is already the result of these sources, or when there are no sources, as in the npm package.
// Lines stay, and columns except in .tsx files.
// An older Node must be able to read this file, so that it reads the version that it needs.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..')
const SRC = join(ROOT, 'src')
const DIST = join(ROOT, 'dist')
/** The digest of the sources of dist. It is in place when the build is complete. */
const STAMP = 'sources.sha256'
/** The ending of a source. */
const SOURCE = /\.tsx?$/
/** How JSX becomes calls of preact. Nothing else is changed. */
const JSX = {
  transforms: ['typescript', 'jsx'],
  jsxRuntime: 'automatic',
  jsxImportSource: 'preact',
  production: true,
  disableESTransforms: true,
  keepUnusedImports: true,
}
const SETTINGS = ['package.json', 'scripts/build.mjs']
/** Codes of a file of another user, and of a read-only disk. */
const NOT_WRITABLE = /^(EACCES|EPERM|EROFS)$/
/** Another build was faster, and its result is the same. */
const TAKEN = /^(ENOTEMPTY|EEXIST)$/

/** Reads the sources, by path below the project, in the order of their paths. */
function readSources() {
  const paths = fs.readdirSync(SRC, { recursive: true }).filter((path) => SOURCE.test(path))
  const all = SETTINGS.concat(paths.map((path) => join('src', path))).sort()
  return new Map(all.map((path) => [path, fs.readFileSync(join(ROOT, path), 'utf8')]))
}

function digestOf(sources) {
  const hash = createHash('sha256')
  for (const [path, text] of sources) hash.update(`${path}\0${text}\0`)
  return `${hash.digest('hex')}\n`
}

function isBuilt(digest) {
  try {
    return fs.readFileSync(join(DIST, STAMP), 'utf8') === digest
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return false
    throw error
  }
}

/** Builds aside, and puts the result in the place of dist, so that no process reads half of a file. */
async function build(sources, digest) {
  const compile = await loadCompiler()
  const aside = join(ROOT, '.cache', `build-${process.pid}`)
  try {
    writeAll(join(aside, 'dist'), sources, compile, digest)
    move(DIST, join(aside, 'former'), /^ENOENT$/)
    move(join(aside, 'dist'), DIST, TAKEN)
  } finally {
    fs.rmSync(aside, { recursive: true, force: true })
  }
}

function writeAll(next, sources, compile, digest) {
  for (const [path, text] of sources) {
    if (SETTINGS.includes(path)) continue
    const target = join(next, path.slice('src/'.length).replace(SOURCE, '.js'))
    fs.mkdirSync(dirname(target), { recursive: true })
    fs.writeFileSync(target, compile(path, text))
  }
  fs.chmodSync(join(next, 'main.js'), 0o755)
  fs.writeFileSync(join(next, STAMP), digest)
}

function move(from, to, expected) {
  try {
    fs.renameSync(from, to)
  } catch (error) {
    if (!expected.test(error.code)) throw error
  }
}

/** Returns a function that compiles the text of a path. */
async function loadCompiler() {
  const { transformSync } = await import('@swc/wasm-typescript')
  const { transform } = await import('sucrase')
  const { init, parse } = await import('es-module-lexer')
  await init
  const withoutTypes = (path, text) =>
    path.endsWith('.tsx')
      ? transform(text, { filePath: path, ...JSX })
      : transformSync(text, { filename: path, module: true, mode: 'strip-only' })
  return (path, text) => {
    let { code } = withoutTypes(path, text)
    // From the last import to the first: the positions of those before stay.
    for (const { n: name, e: end } of parse(code, path)[0].toReversed()) {
      const [ending] = (/^\./.test(name || '') && SOURCE.exec(name)) || []
      if (ending === undefined) continue
      // The end of a dynamic import is behind its quote.
      const at = code.lastIndexOf(ending, end)
      code = `${code.slice(0, at)}.js${code.slice(at + ending.length)}`
    }
    return code
  }
}

/** Returns one line for a problem that the user can solve, and everything for others. */
function describe(error) {
  const { code, message, filename, startLine, snippet } = error
  if (code === 'ERR_MODULE_NOT_FOUND') {
    return 'its packages are not installed, or only older ones; run: npm ci'
  }
  if (NOT_WRITABLE.test(code)) {
    return `dist is missing or older than src, and this user may not write to ${error.path}; as the owner of ${ROOT}, run: npm run build`
  }
  if (error.syscall !== undefined) return `cannot build: ${message}`
  if (filename !== undefined) return `${filename}:${startLine}: ${message}\n${snippet}`
  return error.stack
}

/** Returns the line for a Node that is too old. */
function findOldNode() {
  const { engines } = JSON.parse(fs.readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const oldest = engines.node.replace('>=', '')
  const [major, minor] = oldest.split('.').map(Number)
  const [foundMajor, foundMinor] = process.versions.node.split('.').map(Number)
  if (foundMajor > major || (foundMajor === major && foundMinor >= minor)) return undefined
  return `this is Node ${process.versions.node}, and Rookery needs Node ${oldest} or newer: https://nodejs.org/en/download`
}

async function main() {
  const oldNode = findOldNode()
  if (oldNode !== undefined) return fail(oldNode)
  // The npm package has no sources.
  if (!fs.existsSync(SRC)) return
  const sources = readSources()
  const digest = digestOf(sources)
  if (!isBuilt(digest)) await build(sources, digest)
}

function fail(reason) {
  process.stderr.write(`rookery: ${reason}\n`)
  process.exitCode = 2
}

main().catch((error) => fail(describe(error)))
