import { findArchiveName } from './archive.ts'
import type { VendoredSource } from './duniverse.ts'
import { isOpamName, isOpamVersion, type OpamPackage } from './package.ts'

// These tag releases with a `v` and keep it in opam's versions. Others leave it out of opam's
// versions.
const KEEPS_V = /\/janestreet(?:-v0)?\//

/**
 * Finds the package of a vendored source by its URL: the name and version of its archive, or the
 * name of its folder. The version is undefined for repositories and for archives without one.
 * Undefined for a folder whose name is not a package name.
 */
export function findVendoredPackage({
  url,
  directory,
}: VendoredSource):
  | (Pick<OpamPackage, 'name'> & { readonly version: string | undefined })
  | undefined {
  const { name, version } = archiveOf(url)
  const found = [name, directory].find((one) => one !== undefined && isOpamName(one))
  return found === undefined ? undefined : { name: found, version }
}

function archiveOf(url: string): { name: string | undefined; version: string | undefined } {
  const path = url.split(/[?#]/, 1)[0] ?? ''
  const archive = findArchiveName(path.slice(path.lastIndexOf('/') + 1))
  if (archive === undefined) return { name: undefined, version: undefined }
  const { name, version } = archive
  const plain = KEEPS_V.test(path) ? version : version.replace(/^v/, '')
  return { name, version: isOpamVersion(plain) ? plain : undefined }
}

/** A package that a vendored source seems to hold. */
export type InferredPackage = {
  readonly name: string
  /** The version of the archive. Undefined for repositories, and for a package without a source. */
  readonly version: string | undefined
  /** The ordinal of the source. Undefined when none of them seems to hold the package. */
  readonly source: number | undefined
  /** True for a name in `names`; false for the name of an archive or a folder, which is a guess. */
  readonly isNamed: boolean
}

// These depend on other packages and have no source: an archive of this name is that of another package.
const WITHOUT_SOURCE: ReadonlySet<string> = new Set(['ocaml'])

/**
 * Finds the packages in vendored sources by names that a graph or a lock file has. A source holds the package that its
 * archive or folder is named after, and those whose names begin with it (`metrics-lwt` in `metrics-0.5.0.tbz`). One that
 * holds none of `names` is the package of its own name. `isElsewhere` is true for packages that are installed: a common
 * beginning of the names is no reason to find them in a source. Linear, except for sorting.
 */
export function inferPackages(
  sources: readonly VendoredSource[],
  names: ReadonlySet<string>,
  isElsewhere: (name: string) => boolean,
): InferredPackage[] {
  const found = new Map<string, InferredPackage>()
  const bySource = new Map<string, number>()
  const holding = new Set<number>()
  const add = (name: string, source: number | undefined, isNamed: boolean) => {
    const vendored = source === undefined ? undefined : sources[source]
    const version = vendored && archiveOf(vendored.url).version
    found.set(`${name} ${source}`, { name, version, source, isNamed })
    if (isNamed && source !== undefined) holding.add(source)
  }
  const placed = new Set<string>()
  for (const [ordinal, source] of sources.entries()) {
    const words = wordsOf(source)
    const listed = source.packages ?? []
    const main = words.find((word) => names.has(word) && !WITHOUT_SOURCE.has(word))
    for (const name of listed.length > 0 || main === undefined ? listed : [main]) {
      add(name, ordinal, true)
      placed.add(name)
    }
    for (const word of words) if (!bySource.has(word)) bySource.set(word, ordinal)
  }
  for (const name of [...names].toSorted()) {
    if (placed.has(name) || isElsewhere(name)) continue
    add(name, findByBeginning(name, bySource), true)
  }
  for (const [ordinal, source] of sources.entries()) {
    if (holding.has(ordinal)) continue
    const name = findVendoredPackage(source)?.name
    if (name !== undefined && !WITHOUT_SOURCE.has(name)) add(name, ordinal, false)
  }
  return [...found.values()]
}

/** Lists the names that a source may have as a package: of its archive, of its folder, and both without `ocaml`. */
function wordsOf({ url, directory }: VendoredSource): string[] {
  const folder = directory.replace(/\.git(?:#.*)?$/, '')
  const words = [archiveOf(url).name, folder].filter((word) => word !== undefined)
  const short = words.map((word) => word.replace(/^ocaml[-_.]|[-_.](?:ocaml|ml)$/, ''))
  return [...new Set([...words, ...short])].filter(isOpamName)
}

function findByBeginning(name: string, bySource: ReadonlyMap<string, number>): number | undefined {
  for (let end = name.lastIndexOf('-'); end > 0; end = name.lastIndexOf('-', end - 1)) {
    const source = bySource.get(name.slice(0, end))
    if (source !== undefined) return source
  }
  return undefined
}
