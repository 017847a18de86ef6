import { findCommit, parseSourceAddress } from '../documents/source-address.ts'
import type { VendoredSource } from '../opam/duniverse.ts'
import type { OpamSource } from '../opam/package.ts'
import type { InstalledPackage } from '../opam/switch.ts'
import { equalTexts, type ValueChange } from './differences.ts'

/** Relation of the bytes of two sources, by their checksums. `unknown`: they have no kind of checksum in common. */
export type Bytes = 'same' | 'other' | 'unknown'

/**
 * Compares the bytes of two sources: the checksums of each kind that both have, and without any checksum the URL. More
 * checksums on one side change nothing. A git commit names its bytes.
 */
export function compareBytes(from: OpamSource | undefined, to: OpamSource | undefined): Bytes {
  if (from === undefined || to === undefined) return from === to ? 'same' : 'unknown'
  const common = commonKinds(from.checksums, to.checksums)
  if (common.length > 0) {
    const agree = common.every((kind) => {
      const before = new Set(ofKind(from.checksums, kind))
      return ofKind(to.checksums, kind).some((checksum) => before.has(checksum))
    })
    return agree ? 'same' : 'other'
  }
  if (from.url !== to.url) return 'unknown'
  const areEqual = from.checksums.length + to.checksums.length === 0 || isCommit(to.url)
  return areEqual ? 'same' : 'unknown'
}

/** A source whose bytes are others although its URL is the same: somebody replaced them there. */
export type ReplacedSource = {
  readonly url: string
  /** The packages and vendored folders with this source, by name. */
  readonly names: readonly string[]
  /** The checksums of the kinds that differ. */
  readonly checksums: ValueChange<readonly string[]>
}

/** The sources of an image. */
type SourceLists = {
  readonly installed: readonly InstalledPackage[]
  readonly duniverse: readonly VendoredSource[]
}

/**
 * Lists the URLs under which a kind of checksum that both images have differs, also for other packages and other
 * versions, in the order of URLs.
 */
export function replacedSources(from: SourceLists, to: SourceLists): ReplacedSource[] {
  const earlier = sourcesByUrl(from)
  return [...sourcesByUrl(to)]
    .flatMap(([url, { names, checksums }]) => {
      const before = earlier.get(url)
      if (before === undefined) return []
      const was = [...before.checksums]
      const is = [...checksums]
      const differing = commonKinds(was, is).filter(
        (kind) => !equalTexts(ofKind(was, kind), ofKind(is, kind)),
      )
      if (differing.length === 0) return []
      const of = (all: readonly string[]) => differing.flatMap((kind) => ofKind(all, kind))
      const both = new Set([...before.names, ...names])
      return [{ url, names: [...both].toSorted(), checksums: { from: of(was), to: of(is) } }]
    })
    .toSorted((a, b) => (a.url < b.url ? -1 : 1))
}

type SourcesOfUrl = { readonly names: Set<string>; readonly checksums: Set<string> }

function sourcesByUrl({ installed, duniverse }: SourceLists): Map<string, SourcesOfUrl> {
  const found = new Map<string, SourcesOfUrl>()
  const add = (name: string, { url, checksums }: OpamSource) => {
    const one = found.get(url) ?? { names: new Set(), checksums: new Set() }
    found.set(url, one)
    one.names.add(name)
    for (const checksum of checksums) one.checksums.add(checksum)
  }
  for (const { name, source, extraSources } of installed) {
    if (source !== undefined) add(name, source)
    for (const extra of extraSources) add(name, extra)
  }
  for (const source of duniverse) add(source.directory, source)
  return found
}

const kindOf = (checksum: string) => checksum.slice(0, checksum.indexOf('='))

/** In order. */
function ofKind(checksums: readonly string[], kind: string): string[] {
  return checksums.filter((checksum) => kindOf(checksum) === kind).toSorted()
}

function commonKinds(from: readonly string[], to: readonly string[]): string[] {
  const before = new Set(from.map(kindOf))
  return [...new Set(to.map(kindOf))].filter((kind) => before.has(kind)).toSorted()
}

function isCommit(url: string): boolean {
  return findCommit(parseSourceAddress(url)) !== undefined
}
