#!/usr/bin/env node
// Makes the Debian package of this tree, rookery_VERSION_ARCHITECTURE.deb, in the folder that the first argument names, or here:
//   node scripts/build-deb.mjs [FOLDER [PACKAGE]]
// PACKAGE is the npm package of this tree, which npm pack makes when it is left out. The package is for the processor on which this
// runs. The same tree with the same Node, npm and dpkg makes the same bytes, in any folder and at any time. The variable
// SOURCE_DATE_EPOCH is its time; without it, the time of the last commit is. dpkg-deb reads DPKG_DEB_COMPRESSOR_TYPE and _LEVEL.
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { BuildError, installProgram, ROOT, run, runMain, sourceDate } from './building.mjs'
import { fetchNodeLts } from './node-lts.mjs'

const PARTS = join(ROOT, 'deploy/debian')
const PROGRAM = 'usr/lib/rookery'
/** The names that Debian has for kinds of processors. */
const ARCHITECTURES = { x64: 'amd64', arm64: 'arm64' }
/** Files get the same rights under any umask. */
const UMASK = 0o022
/** The settings may have secrets: postinst gives them to the group rookery. */
const MODES = { 'etc/rookery/rookery.env': 0o640 }
/** Files that a running program does not read: those for compilers, debuggers and authors of packages, and those of npm. */
const NEEDLESS = [
  /\.d\.[cm]?ts$|\.map$|\.a$|\/native\/lib\/(?:pkgconfig|postgresql\/pgxs)$/,
  /^node_modules\/(?:@[^/]+\/)?[^/]+\/(?:\.[^/]+|tests?|index\.html)$/,
  /^node_modules\/\.[^/]+$|^scripts$/,
]
/** How a program or a script begins. */
const BEGINNINGS = ['#!', '\x7fELF']
const LIBRARY = /\.so(?:\.\d+)*$/
const MAINTAINER = /^Maintainer: (.*)$/m

const isNeedless = (path) => NEEDLESS.some((one) => one.test(path))
const part = (name) => fs.readFileSync(join(PARTS, name), 'utf8')

/** Returns the name that Debian has for this processor. Throws where no package can be made. */
function architecture() {
  const name = ARCHITECTURES[process.arch]
  if (process.platform !== 'linux' || name === undefined) {
    throw new BuildError(`a package needs Linux on ${Object.keys(ARCHITECTURES).join(' or ')}`)
  }
  try {
    run('dpkg-deb', ['--version'])
  } catch {
    throw new BuildError('the program dpkg-deb is missing; install the package dpkg of this system')
  }
  return name
}

/** A version such as 0.3.0-dev is older than 0.3.0 for Debian, too. */
const debianVersion = (version) => version.replaceAll('-', '~')

/** Lists the paths below a folder in their order, and follows no link. */
function walk(folder, below = '') {
  return fs
    .readdirSync(join(folder, below), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(below, entry.name)
      return entry.isDirectory() ? [path, ...walk(folder, path)] : [path]
    })
}

/** Installs the program with its Node, and without what it does not read. */
function installAll(stage, tarball) {
  const program = join(stage, PROGRAM)
  installProgram(program, tarball)
  for (const path of walk(program)) {
    if (isNeedless(path)) fs.rmSync(join(program, path), { recursive: true, force: true })
  }
  // The launcher of a clone needs a Node on PATH.
  fs.rmSync(join(program, 'bin/rookery'))
  fs.symlinkSync('../dist/main.js', join(program, 'bin/rookery'))
  fetchNodeLts(join(program, 'node'))
}

/** Returns the text that rookery prints. */
function rookery(stage, ...words) {
  const node = join(stage, PROGRAM, 'node/bin/node')
  return run(node, [join(stage, PROGRAM, 'dist/main.js'), ...words], { cwd: stage, env: {} })
}

/** Writes the files outside the folder of the program. */
function installSystemFiles(stage, { version, date }) {
  const write = (path, content) => {
    fs.mkdirSync(dirname(join(stage, path)), { recursive: true })
    fs.writeFileSync(join(stage, path), content)
  }
  const at = new Date(date * 1000).toUTCString().replace('GMT', '+0000')
  const [, maintainer] = MAINTAINER.exec(part('control'))
  const changes = `rookery (${version}) stable; urgency=medium\n\n  * /${PROGRAM}/CHANGELOG.md has the changes.\n\n -- ${maintainer}  ${at}\n`
  write(`${PROGRAM}/defaults.env`, part('defaults.env'))
  write('usr/bin/rookery', part('rookery'))
  fs.chmodSync(join(stage, 'usr/bin/rookery'), 0o755)
  write('etc/rookery/rookery.env', part('rookery.env'))
  const unit = fs.readFileSync(join(ROOT, 'deploy/systemd/rookery.service'))
  write('usr/lib/systemd/system/rookery.service', unit)
  write('usr/share/doc/rookery/copyright', part('copyright'))
  write('usr/share/doc/rookery/changelog.gz', gzipSync(changes, { level: 9 }))
  fs.symlinkSync(`../../../lib/rookery/docs`, join(stage, 'usr/share/doc/rookery/docs'))
  write('usr/share/man/man1/rookery.1.gz', gzipSync(part('rookery.1'), { level: 9 }))
  write('usr/share/lintian/overrides/rookery', part('lintian-overrides'))
  const completion = (shell) => rookery(stage, 'completion', shell)
  write('usr/share/bash-completion/completions/rookery', completion('bash'))
  write('usr/share/zsh/vendor-completions/_rookery', completion('zsh'))
  write('usr/share/fish/vendor_completions.d/rookery.fish', completion('fish'))
}

/** Says whether a file is a program; packages of npm give the right to run to others, too. */
function isProgram(file, mode) {
  if ((mode & 0o100) === 0 || LIBRARY.test(file)) return false
  const [beginning, handle] = [Buffer.alloc(4), fs.openSync(file, 'r')]
  fs.readSync(handle, beginning)
  fs.closeSync(handle)
  return BEGINNINGS.some((one) => beginning.latin1Slice(0, one.length) === one)
}

/** Gives every file its rights and the same time, and returns the files and their size on a disk in KiB. */
function settle(stage, date) {
  const files = []
  let kib = 0
  for (const path of walk(stage)) {
    const at = join(stage, path)
    const found = fs.lstatSync(at)
    if (!found.isSymbolicLink()) {
      const runs = found.isDirectory() || isProgram(at, found.mode)
      fs.chmodSync(at, MODES[path] ?? (runs ? 0o755 : 0o644))
    }
    fs.lutimesSync(at, date, date)
    kib += found.isFile() ? Math.ceil(found.size / 1024) : 1
    if (found.isFile()) files.push(path)
  }
  return { files, kib }
}

/** Writes the folder DEBIAN, which says how the package is installed. */
function writeControl(stage, { version, arch, files, kib, date }) {
  const folder = join(stage, 'DEBIAN')
  fs.mkdirSync(folder)
  const control = part('control')
    .replace('@VERSION@', version)
    .replace('@ARCHITECTURE@', arch)
    .replace('@INSTALLED_KIB@', String(kib))
  fs.writeFileSync(join(folder, 'control'), control)
  const md5 = (path) =>
    createHash('md5')
      .update(fs.readFileSync(join(stage, path)))
      .digest('hex')
  const listed = files.filter((path) => !path.startsWith('etc/'))
  fs.writeFileSync(
    join(folder, 'md5sums'),
    listed.map((path) => `${md5(path)}  ${path}\n`).join(''),
  )
  fs.copyFileSync(join(PARTS, 'conffiles'), join(folder, 'conffiles'))
  for (const name of ['postinst', 'prerm', 'postrm']) {
    fs.copyFileSync(join(PARTS, name), join(folder, name))
    fs.chmodSync(join(folder, name), 0o755)
  }
  for (const name of fs.readdirSync(folder)) fs.utimesSync(join(folder, name), date, date)
  for (const path of [folder, stage]) fs.utimesSync(path, date, date)
}

function build(target, tarball) {
  const arch = architecture()
  const date = sourceDate()
  const { version: ofTree } = JSON.parse(fs.readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const version = debianVersion(ofTree)
  process.umask(UMASK)
  const work = fs.mkdtempSync(join(tmpdir(), 'rookery-deb-'))
  try {
    const stage = join(work, 'stage')
    fs.mkdirSync(stage)
    installAll(stage, tarball)
    installSystemFiles(stage, { version, date })
    writeControl(stage, { version, arch, date, ...settle(stage, date) })
    fs.mkdirSync(target, { recursive: true })
    const file = join(target, `rookery_${version}_${arch}.deb`)
    const environment = { ...process.env, SOURCE_DATE_EPOCH: String(date) }
    run('dpkg-deb', ['--root-owner-group', '--build', stage, file], { env: environment })
    process.stdout.write(`${file}\n`)
  } finally {
    fs.rmSync(work, { recursive: true, force: true })
  }
}

runMain('build-deb', () => {
  const [folder = '.', tarball] = process.argv.slice(2)
  build(resolve(folder), tarball)
})
