/** The name and version in the file name of a release: `ipaddr-5.6.2.tbz`, `v0.12.1.tar.gz`. */
export type ArchiveName = {
  /** Undefined for a version alone. */
  readonly name: string | undefined
  /** Unchanged, with its `v` if it has one. */
  readonly version: string
}

const ENDINGS = [
  '.tar.gz',
  '.tgz',
  '.tar.bz2',
  '.tbz2',
  '.tbz',
  '.tar.xz',
  '.txz',
  '.tar.lz',
  '.tar.zst',
  '.zip',
]
// The name ends before the first dash and a digit: `solo5-v0.12.1`.
const VERSION_BEGINS = /(?<=[A-Za-z0-9_+])-(?=v?\d)/
const NAME = /^[A-Za-z0-9_+.-]+$/
const VERSION = /^v?\d[A-Za-z0-9_.+~-]*$/

/** Removes the ending of an archive from a file name; undefined when it has none. */
export function cutArchiveEnding(file: string): string | undefined {
  const ending = ENDINGS.find((one) => file.endsWith(one))
  return ending === undefined ? undefined : file.slice(0, -ending.length)
}

/** Parses the file name of an archive; undefined when it is not an archive, or has no version. */
export function findArchiveName(file: string): ArchiveName | undefined {
  const stem = cutArchiveEnding(file) ?? ''
  const dash = stem.search(VERSION_BEGINS)
  const name = dash === -1 ? undefined : stem.slice(0, dash)
  const version = stem.slice(dash + 1)
  if (!VERSION.test(version) || (name !== undefined && !NAME.test(name))) return undefined
  return { name, version }
}
