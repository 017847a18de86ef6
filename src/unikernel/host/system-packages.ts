import { type Line, type LineProblem, LineProblems, linesOf, shownText } from './lines.ts'

// A desktop with everything has some 5000 packages, which take 200 KB.
export const SYSTEM_PACKAGES_BYTES_MAX = 16 * 1024 * 1024
export const SYSTEM_PACKAGES_MAX = 100_000
// Longer than any manager's names. An index has to bear it.
const WORD_CHARACTERS_MAX = 255
// So many lines say whose list it is.
const SAMPLE_LINES_MAX = 100

/** Whose list it is: Debian's and its relatives', Alpine's, or FreeBSD's. */
export type PackageManager = 'dpkg' | 'apk' | 'pkg'

/** A package of the build host. */
export type SystemPackage = {
  readonly name: string
  readonly version: string
  /** As the list says, which it mostly does not. */
  readonly architecture?: string
}

/** What a list of system packages says. */
export type SystemPackages = {
  /** Undefined for a list without packages. */
  readonly manager: PackageManager | undefined
  /** By name, then by version, in the order of UTF-16 units; each once. */
  readonly packages: readonly SystemPackage[]
  /** What was not understood, and so left out. */
  readonly problems: readonly LineProblem[]
}

/** Too large to be read. The message is one line. */
export class MalformedPackagesError extends Error {
  override readonly name = 'MalformedPackagesError'
}

/**
 * Reads a list of packages, one a line: dpkg's `name=version` or `name:arch=version`, Alpine's
 * `name-version-rN` with or without what `apk list` adds, FreeBSD's `name-version`. Whose list it is
 * follows from the first SAMPLE_LINES_MAX lines: most of them decide. A line that is not as the others
 * is a problem.
 * Throws MalformedPackagesError beyond the limits.
 */
export function parseSystemPackages(bytes: Uint8Array): SystemPackages {
  if (bytes.length > SYSTEM_PACKAGES_BYTES_MAX) {
    throw new MalformedPackagesError(
      `the list of packages has ${bytes.length} bytes, and ${SYSTEM_PACKAGES_BYTES_MAX} are the limit`,
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
  const problems = new LineProblems()
  const found = new Map<string, SystemPackage>()
  for (const { number, text } of lines) {
    const one = manager && READERS[manager](text)
    if (one === undefined) problems.add(number, `${shownText(text)} is no ${expected(manager)}`)
    else found.set(`${one.name} ${one.version} ${one.architecture ?? ''}`, one)
  }
  return {
    manager,
    packages: [...found].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one),
    problems: problems.list(),
  }
}

/** The manager to which most lines belong; of several, the first in MANAGERS. */
function findManager(lines: readonly Line[]): PackageManager | undefined {
  const counts = { dpkg: 0, apk: 0, pkg: 0 }
  for (const { text } of lines) {
    const manager = MANAGERS.find((one) => READERS[one](text) !== undefined)
    if (manager) counts[manager] += 1
  }
  const [best] = MANAGERS.toSorted((a, b) => counts[b] - counts[a])
  return best && counts[best] > 0 ? best : undefined
}

// A line belongs to the first that understands it. Nearly all of Alpine's would also do as FreeBSD's,
// so a count of what each understands would make FreeBSD's out of Alpine's list with one odd line.
const MANAGERS = ['dpkg', 'apk', 'pkg'] as const

const READERS: Readonly<Record<PackageManager, (line: string) => SystemPackage | undefined>> = {
  dpkg: readDebian,
  apk: readAlpine,
  pkg: readFreebsd,
}

function expected(manager: PackageManager | undefined): string {
  if (manager === 'dpkg') return 'name=version of a package of Debian'
  if (manager === 'apk') return 'name-version-rN of a package of Alpine'
  if (manager === 'pkg') return 'name-version of a package of FreeBSD'
  return 'package of Debian, Alpine or FreeBSD'
}

// Debian policy, 5.6.1 and 5.6.12; dpkg itself takes capitals and `_`, too.
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

// FreeBSD's porter's handbook, 5.2: the version has no dash, so the last one ends the name.
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
