import {
  byName,
  findUrl,
  findWord,
  listChecksums,
  listWords,
  type OpamProblems,
  valuesOf,
} from './fields.ts'
import { MalformedOpamError } from './lexer.ts'
import { isOpamName, type OpamSource } from './package.ts'
import type { OpamValue } from './value.ts'

// Names of files, of source folders, and of fields.
export const LABEL_CHARACTERS_MAX = 255
// Real unikernels have at most some hundreds.
export const SOURCES_MAX = 5_000

/** A source tree that opam-monorepo put below `duniverse`, to be built with the unikernel. */
export type VendoredSource = OpamSource & {
  /** Its folder below `duniverse`. */
  readonly directory: string
  /** The packages in it, where opam-monorepo names them. */
  readonly packages?: readonly string[]
}

/**
 * Parses opam-monorepo's sources: lists of a URL, a folder and, except for git repositories, checksums; or, as later
 * releases write them, `url {"…"} dir {"…"} hashes {"…"} dune-packages {"…"}`. Throws MalformedOpamError for more than
 * SOURCES_MAX.
 */
export function listVendored(value: OpamValue, problems: OpamProblems): VendoredSource[] {
  const found = new Map<string, VendoredSource>()
  for (const entry of entriesOf(value, SOURCES_MAX, 'sources')) {
    const { address, folder, checksum, names } = partsOf(entry)
    if (!address || !folder) {
      problems.add(entry, 'expected a list of a URL, a folder and checksums')
      continue
    }
    const url = findUrl(address, problems)
    const directory = findWord(folder, findLabel, 'folder name', problems)
    const checksums = checksum ? listChecksums(checksum, problems) : []
    if (url === undefined || directory === undefined) continue
    if (found.has(directory)) {
      problems.add(folder, 'a second source for this folder')
      continue
    }
    const isName = (text: string) => (isOpamName(text) ? text : undefined)
    const packages = names && [...new Set(listWords(names, isName, 'package name', problems))]
    found.set(directory, { directory, url, checksums, ...(packages && { packages }) })
  }
  return [...found.values()].toSorted((a, b) =>
    byName({ name: a.directory }, { name: b.directory }),
  )
}

type SourceParts = {
  readonly address?: OpamValue | undefined
  readonly folder?: OpamValue | undefined
  readonly checksum?: OpamValue | undefined
  readonly names?: OpamValue | undefined
}

function partsOf(entry: OpamValue): SourceParts {
  if (entry.kind !== 'list') return {}
  const labelled = new Map(
    entry.values.flatMap((part): [string, OpamValue][] => {
      if (part.kind !== 'option' || part.value.kind !== 'identifier') return []
      const { line, column, options } = part
      const [only, ...others] = options
      const value: OpamValue =
        only !== undefined && others.length === 0
          ? only
          : { kind: 'list', values: options, line, column }
      return [[part.value.value, value]]
    }),
  )
  if (labelled.size > 0) {
    return {
      address: labelled.get('url'),
      folder: labelled.get('dir'),
      checksum: labelled.get('hashes'),
      names: labelled.get('dune-packages'),
    }
  }
  const [address, folder, checksum, ...others] = entry.values
  return others.length > 0 ? {} : { address, folder, checksum }
}

/** Returns the lists in a list. A list of one list may omit the outer brackets. Throws MalformedOpamError. */
export function entriesOf(value: OpamValue, max: number, things: string): readonly OpamValue[] {
  const values = valuesOf(value)
  const [first] = values
  const isOne = first?.kind === 'string' || first?.kind === 'option'
  const entries = value.kind === 'list' && isOne ? [value] : values
  if (entries.length <= max) return entries
  throw new MalformedOpamError(
    value,
    `there are ${entries.length} ${things}: at most ${max} are allowed`,
  )
}

/** Returns a name of one line that is not too long; undefined for another text. */
export function findLabel(text: string): string | undefined {
  return text.length <= LABEL_CHARACTERS_MAX && /^[^\p{Cc}\p{Cf}\p{Cs}]+$/u.test(text)
    ? text
    : undefined
}
