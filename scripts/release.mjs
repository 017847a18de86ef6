#!/usr/bin/env node
// Makes the files of a release from the tag that is checked out, in release/, or in the folder that the first argument names:
//   node scripts/release.mjs [--without ARTIFACT]... [FOLDER]
// The same tag with the same Node and npm makes the same bytes, in any folder and at any time.
// Before the tag, this writes the migrations of the release into schema/releases.json:
//   node scripts/release.mjs --record-schema
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { BuildError, ROOT, run, runMain } from './building.mjs'

const RECORD = 'schema/releases.json'
const CHECKSUMS = 'SHA256SUMS'
/** Files get the same rights under any umask. */
const UMASK = 0o022
const CLIENT_MODE = 0o755

/**
 * The files of a release. Each row makes its files in the folder `out`, from `tree`: the files of the tag alone, with the installed
 * packages, and built by the rows before. Programs of a row get `environment`, with SOURCE_DATE_EPOCH, the time of the tag.
 * `--without` leaves a row out by its name.
 */
const ARTIFACTS = [
  function npmPackage({ tree, out, environment }) {
    run('npm', ['pack', '--silent', '--pack-destination', out], { cwd: tree, env: environment })
  },
  function client({ tree, out, version }) {
    const file = join(out, `rookery-client-${version}.cjs`)
    fs.copyFileSync(join(tree, 'dist/rookery-client.cjs'), file)
    fs.chmodSync(file, CLIENT_MODE)
  },
  function debianPackage({ tree, out, version, environment }) {
    const words = ['scripts/build-deb.mjs', out, join(out, `rookery-${version}.tgz`)]
    run(process.execPath, words, { cwd: tree, env: environment })
  },
  function containerImage({ tree, out, version, revision, environment }) {
    const words = ['--package', join(out, `rookery-${version}.tgz`), '--revision', revision, out]
    run(process.execPath, ['scripts/build-image.mjs', ...words], { cwd: tree, env: environment })
  },
]

const read = (path) => fs.readFileSync(join(ROOT, path), 'utf8')
const digestOf = (bytes) => createHash('sha256').update(bytes).digest('hex')

/** Returns the digest of each migration, by its file. */
function migrations() {
  const names = fs.readdirSync(join(ROOT, 'schema')).filter((name) => name.endsWith('.sql'))
  return Object.fromEntries(names.sort().map((name) => [name, digestOf(read(`schema/${name}`))]))
}

/** Returns the version of package.json. Throws when another file has another one. */
function versionOfFiles() {
  const { version } = JSON.parse(read('package.json'))
  const locked = JSON.parse(read('package-lock.json'))
  if (locked.version !== version || locked.packages[''].version !== version) {
    throw new BuildError(`package-lock.json has another version than ${version}; run: npm install`)
  }
  return version
}

/** Throws when a page or a record does not have this release. */
function assertDescribed(version) {
  const heading = `## [${version}] - `
  const found = read('CHANGELOG.md')
    .split('\n')
    .find((line) => line.startsWith(heading))
  if (!/^\d{4}-\d\d-\d\d$/.test(found?.slice(heading.length) ?? '')) {
    throw new BuildError(`CHANGELOG.md has no line "${heading}YYYY-MM-DD"`)
  }
  const recorded = JSON.parse(read(RECORD))[version]
  if (JSON.stringify(recorded) !== JSON.stringify(migrations())) {
    throw new BuildError(
      `${RECORD} does not have the migrations of ${version}; run: node scripts/release.mjs --record-schema`,
    )
  }
}

/** Returns the tag of this version, which must be checked out without a change. */
function checkedOutTag(version) {
  const changed = run('git', ['status', '--porcelain']).trim()
  if (changed !== '') throw new BuildError(`the working tree has changes:\n${changed}`)
  const tags = run('git', ['tag', '--points-at', 'HEAD', '--list', 'v*'])
    .split('\n')
    .filter(Boolean)
  if (tags.length === 0) throw new BuildError(`the commit has no tag; run: git tag -a v${version}`)
  if (!tags.includes(`v${version}`)) {
    throw new BuildError(
      `the tag is ${tags.join(', ')}, and the version in package.json ${version}`,
    )
  }
  return `v${version}`
}

/** Writes the files of the tag into a new folder, without those that git ignores, and links the packages. */
function exportTree(tag, folder) {
  const tree = join(folder, 'tree')
  fs.mkdirSync(tree)
  run('git', ['archive', '--format=tar', '-o', join(folder, 'tree.tar'), tag])
  run('tar', ['-xf', join(folder, 'tree.tar'), '-C', tree])
  fs.symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'))
  return tree
}

/** Writes the digest of each file, as `sha256sum --check` reads them. */
function writeChecksums(out) {
  const lines = fs
    .readdirSync(out)
    .sort()
    .map((name) => `${digestOf(fs.readFileSync(join(out, name)))}  ${name}\n`)
  fs.writeFileSync(join(out, CHECKSUMS), lines.join(''))
}

/** Returns the rows that are made. Throws when one to leave out does not exist. */
function artifactsWithout(left) {
  const names = ARTIFACTS.map(({ name }) => name)
  const wrong = left.find((name) => !names.includes(name))
  if (wrong === undefined) return ARTIFACTS.filter(({ name }) => !left.includes(name))
  throw new BuildError(`there is no ${wrong}; the files of a release are: ${names.join(', ')}`)
}

function release(target, without) {
  const artifacts = artifactsWithout(without)
  const version = versionOfFiles()
  const tag = checkedOutTag(version)
  assertDescribed(version)
  if (fs.existsSync(target)) throw new BuildError(`${target} exists; remove it first`)
  process.umask(UMASK)
  const folder = fs.mkdtempSync(join(tmpdir(), 'rookery-release-'))
  try {
    const tree = exportTree(tag, folder)
    const out = join(folder, 'out')
    fs.mkdirSync(out)
    const seconds = run('git', ['log', '-1', '--format=%ct', tag]).trim()
    const environment = { ...process.env, SOURCE_DATE_EPOCH: seconds }
    const revision = run('git', ['rev-parse', `${tag}^{commit}`]).trim()
    for (const make of artifacts) make({ tree, out, version, revision, environment })
    writeChecksums(out)
    fs.cpSync(out, target, { recursive: true })
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
  process.stdout.write(fs.readFileSync(join(target, CHECKSUMS)))
}

function recordSchema() {
  const version = versionOfFiles()
  const records = { ...JSON.parse(read(RECORD)), [version]: migrations() }
  fs.writeFileSync(join(ROOT, RECORD), `${JSON.stringify(records, undefined, 2)}\n`)
}

const OPTIONS = {
  'record-schema': { type: 'boolean' },
  without: { type: 'string', multiple: true, default: [] },
}

runMain('release', () => {
  const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true })
  if (values['record-schema']) recordSchema()
  else release(resolve(positionals[0] ?? join(ROOT, 'release')), values.without)
})
