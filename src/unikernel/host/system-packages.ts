import { findForeignManager } from './foreign-lists.ts'
import { type Line, type LineProblem, LineProblems, linesOf, shownText } from './lines.ts'

// A full desktop has some 5000 packages, which take 200 KB.
export const SYSTEM_PACKAGES_BYTES_MAX = 2 * 1024 * 1024
export const SYSTEM_PACKAGES_MAX = 20_000
// Longer than the names of any package manager, and short enough for an index.
const WORD_CHARACTERS_MAX = 255
// The number of lines that decide the package manager.
const SAMPLE_LINES_MAX = 100

/** The package manager of a list: of Debian and its relatives, Alpine, or FreeBSD. */
export type PackageManager = 'dpkg' | 'apk' | 'pkg'

/** A package of the build host. */
export type SystemPackage = {
  readonly name: string
  readonly version: string
  /** Undefined in most lists. */
  readonly architecture?: string
}

/** The content of a list of system packages. */
export type SystemPackages = {
  /** Undefined for a list without packages. */
  readonly manager: PackageManager | undefined
  /** By name, then by version, in the order of UTF-16 units, without duplicates. */
  readonly packages: readonly SystemPackage[]
  /** Lines that could not be parsed and were left out. */
  readonly problems: readonly LineProblem[]
}

/** A list beyond the limits, or of another package manager. The message is one line. */
export class MalformedPackagesError extends Error {
  override readonly name = 'MalformedPackagesError'
}

/**
 * Parses a list of packages, one a line: dpkg's `name=version` or `name:arch=version`, Alpine's
 * `name-version-rN` with or without the additions of `apk list`, FreeBSD's `name-version`. The
 * majority of the first SAMPLE_LINES_MAX lines decides the package manager. A line of another form
 * is a problem. Throws MalformedPackagesError beyond the limits, and for a list of another package manager, whose lines
 * may look like those of FreeBSD or Debian.
 */
export function parseSystemPackages(bytes: Uint8Array): SystemPackages {
  if (bytes.length > SYSTEM_PACKAGES_BYTES_MAX) {
    throw new MalformedPackagesError(
      `the list of packages has ${bytes.length} bytes; the limit is ${SYSTEM_PACKAGES_BYTES_MAX}`,
    )
  }
  const lines: Line[] = []
  for (const line of linesOf(bytes)) {
    if (lines.length === SYSTEM_PACKAGES_MAX) {
      throw new MalformedPackagesError(`the list has more than ${SYSTEM_PACKAGES_MAX} packages`)
    }
    lines.push(line)
  }
  const manager = findManager(lines.slice(0, SAMPLE_LINES_MAX))
  if (typeof manager === 'object') {
    throw new MalformedPackagesError(`the list is of ${manager.foreign}; ${READ}`)
  }
  const problems = new LineProblems()
  const found = new Map<string, SystemPackage>()
  for (const { number, text } of lines) {
    const one = manager && READERS[manager](text)
    if (one === undefined) problems.add(number, `${shownText(text)} is not ${expected(manager)}`)
    else found.set(`${one.name} ${one.version} ${one.architecture ?? ''}`, one)
  }
  return {
    manager,
    packages: [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one),
    problems: problems.list(),
  }
}

/** True for a line that some package manager writes. */
export function isSystemPackage(line: string): boolean {
  return MANAGERS.some((manager) => READERS[manager](line) !== undefined)
}

/** Finds the manager of most lines; on a tie, the first in MANAGERS. */
function findManager(lines: readonly Line[]): PackageManager | { foreign: string } | undefined {
  const counts = { dpkg: 0, apk: 0, pkg: 0 }
  const foreign = new Map<string, number>()
  for (const { text } of lines) {
    const other = findForeignManager(text)
    const manager = MANAGERS.find((one) => READERS[one](text) !== undefined)
    if (other !== undefined) foreign.set(other, (foreign.get(other) ?? 0) + 1)
    else if (manager) counts[manager] += 1
  }
  const [best] = MANAGERS.toSorted((a, b) => counts[b] - counts[a])
  const most = best === undefined ? 0 : counts[best]
  const [other] = [...foreign].toSorted(([, a], [, b]) => b - a)
  if (other !== undefined && other[1] > most) return { foreign: other[0] }
  return most > 0 ? best : undefined
}

/** The lists that are read. */
const READ =
  'lists of Debian (name=version), Alpine (name-version-rN) and FreeBSD (name-version) are read'

// A line belongs to the first manager that parses it. Nearly all of Alpine's lines are also valid
// for FreeBSD, so counting every manager that parses a line would turn an Alpine list with one odd
// line into FreeBSD's.
const MANAGERS = ['dpkg', 'apk', 'pkg'] as const

const READERS: Readonly<Record<PackageManager, (line: string) => SystemPackage | undefined>> = {
  dpkg: readDebian,
  apk: readAlpine,
  pkg: readFreebsd,
}

function expected(manager: PackageManager | undefined): string {
  if (manager === 'dpkg') return 'name=version of a Debian package'
  if (manager === 'apk') return 'name-version-rN of an Alpine package'
  if (manager === 'pkg') return 'name-version of a FreeBSD package'
  return 'a package of Debian, Alpine or FreeBSD'
}

// Debian policy, 5.6.1 and 5.6.12; dpkg itself also accepts capitals and `_`.
const DEBIAN_NAME = /^[A-Za-z0-9][A-Za-z0-9+._-]*$/
const DEBIAN_VERSION = /^[0-9A-Za-z][0-9A-Za-z.+~:-]*$/
const DEBIAN_ARCHITECTURE = /^[a-z0-9][a-z0-9-]*$/

function readDebian(line: string): SystemPackage | undefined {
  const equals = line.indexOf('=')
  const [name = '', architecture, ...more] = line.slice(0, Math.max(0, equals)).split(':')
  const version = line.slice(equals + 1)
  if (equals === -1 || more.length > 0) return undefined
  if (!isWord(name, DEBIAN_NAME) || !isWord(version, DEBIAN_VERSION)) return undefined
  if (architecture === undefined) return { name, version }
  return isWord(architecture, DEBIAN_ARCHITECTURE) ? { name, version, architecture } : undefined
}

// apk-tools, doc/apk-package.5 (pkgname, pkgver).
const ALPINE = /^(?<name>[A-Za-z0-9_][A-Za-z0-9._+-]*?)-(?<version>\d[A-Za-z0-9._~]*-r\d+)$/
const ALPINE_ARCHITECTURE = /^[a-z0-9_]+$/

function readAlpine(line: string): SystemPackage | undefined {
  // `apk list` adds ` x86_64 {origin} (license) [installed]`.
  const [word = '', architecture] = line.split(' ', 2)
  if (word.length > 2 * WORD_CHARACTERS_MAX) return undefined
  const { name = '', version = '' } = ALPINE.exec(word)?.groups ?? {}
  if (name === '' || Math.max(name.length, version.length) > WORD_CHARACTERS_MAX) return undefined
  if (architecture === undefined || !isWord(architecture, ALPINE_ARCHITECTURE))
    return { name, version }
  return { name, version, architecture }
}

// FreeBSD's porter's handbook, 5.2: the version has no dash, so the last dash ends the name.
const FREEBSD_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/
const FREEBSD_VERSION = /^[A-Za-z0-9][A-Za-z0-9_.,+]*$/

function readFreebsd(line: string): SystemPackage | undefined {
  const dash = line.lastIndexOf('-')
  const [name, version] = [line.slice(0, Math.max(0, dash)), line.slice(dash + 1)]
  return isWord(name, FREEBSD_NAME) && isWord(version, FREEBSD_VERSION)
    ? { name, version }
    : undefined
}

function isWord(text: string, pattern: RegExp): boolean {
  return text.length <= WORD_CHARACTERS_MAX && pattern.test(text)
}
