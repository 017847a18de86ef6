import {
  byName,
  findField,
  findText,
  type OpamProblem,
  OpamProblems,
  valuesOf,
} from '../opam/fields.ts'
import { parseOpam } from '../opam/parser.ts'
import type { OpamField, OpamValue } from '../opam/value.ts'

// The file of a unikernel has some lines.
export const BUILD_HASHES_BYTES_MAX = 256 * 1024
const PATH_CHARACTERS_MAX = 4096

/** A hash of a file, in lower-case hexadecimal digits. */
export type FileHash = {
  readonly algorithm: 'md5' | 'sha256' | 'sha512'
  readonly hex: string
}

/** How a path changed: opam's own names for the fields of `.changes`. */
export const FILE_CHANGES = ['added', 'contents-changed', 'kind-changed', 'perm-changed'] as const
export type FileChange = (typeof FILE_CHANGES)[number]

/** A file, folder or link that a build created or changed. */
export type BuiltFile = {
  /** Relative to the switch's prefix, such as `bin/www.hvt`. */
  readonly path: string
  readonly change: FileChange
  readonly kind: 'file' | 'directory' | 'link' | 'other'
  /** Undefined when opam compared only size and time. */
  readonly digest: FileHash | undefined
}

/** The content of a build-hashes file. */
export type BuildHashes = {
  /** By path, in the order of UTF-16 units, without duplicates. */
  readonly files: readonly BuiltFile[]
  /** Entries that could not be parsed and were left out, in the order of the file. */
  readonly problems: readonly OpamProblem[]
}

/**
 * Parses opam's `.changes`, which orb stores as build hashes: lists of paths, each with its kind
 * and hash in braces, such as `"bin/www.hvt" {"F:9b2b…"}` (opam, OpamDirTrack). Throws
 * MalformedOpamError.
 */
export function parseBuildHashes(source: Uint8Array): BuildHashes {
  const problems = new OpamProblems()
  const items = parseOpam(source, problems)
  const found = new Map<string, BuiltFile & { readonly name: string }>()
  for (const change of FILE_CHANGES) {
    const field = findField(items, change, problems)
    for (const value of field ? valuesOf(field.value) : []) {
      const file = findFile(value, change, problems)
      if (file && found.has(file.path)) problems.add(value, `${file.path} is listed twice`)
      else if (file) found.set(file.path, { ...file, name: file.path })
    }
  }
  for (const item of items) {
    if (item.kind === 'field' && isKnown(item)) continue
    problems.add(item, 'build hashes have no such field or section')
  }
  const files = [...found.values()].toSorted(byName)
  return { files: files.map(({ name: _name, ...file }) => file), problems: problems.list() }
}

function isKnown({ name }: OpamField): boolean {
  return ['opam-version', 'removed', ...FILE_CHANGES].includes(name)
}

function findFile(
  value: OpamValue,
  change: FileChange,
  problems: OpamProblems,
): BuiltFile | undefined {
  const [name, options] = value.kind === 'option' ? [value.value, value.options] : [value, []]
  const path = findText(name, problems)
  if (path === undefined) return undefined
  if (path === '' || path.length > PATH_CHARACTERS_MAX || /[\0\p{Cs}]/u.test(path)) {
    problems.add(value, 'a path must not be empty or contain NUL')
    return undefined
  }
  const [first] = options
  const text = first === undefined ? undefined : findText(first, problems)
  return { path, change, ...describe(text ?? '', value, problems) }
}

const HASH = /^(?:(md5|sha256|sha512)=)?([0-9a-f]+)$/i
// opam's imprecise tracking: `F:S`, the bytes, `T`, and the time as OCaml writes a float.
const SIZE_AND_TIME = /^F:S\d+T[\d.e+-]+$/
const HEX_DIGITS = { md5: 32, sha256: 64, sha512: 128 } as const

/** `F:` and a hash, `D`, `L:` and the target of the link, or `S:` and the numbers of a device. */
function describe(
  text: string,
  value: OpamValue,
  problems: OpamProblems,
): Pick<BuiltFile, 'kind' | 'digest'> {
  if (text === 'D') return { kind: 'directory', digest: undefined }
  if (text.startsWith('L')) return { kind: 'link', digest: undefined }
  if (!text.startsWith('F')) return { kind: 'other', digest: undefined }
  if (SIZE_AND_TIME.test(text)) return { kind: 'file', digest: undefined }
  // Without an algorithm it is MD5, and permissions may follow.
  const [, algorithm, hex = ''] = HASH.exec(text.slice(2).split(':')[0] ?? '') ?? []
  const kind = algorithmOf(algorithm)
  if (hex.length === HEX_DIGITS[kind]) {
    return { kind: 'file', digest: { algorithm: kind, hex: hex.toLowerCase() } }
  }
  problems.add(value, 'a file must be F: and an MD5, or F: with sha256= or sha512= and that hash')
  return { kind: 'file', digest: undefined }
}

function algorithmOf(name = 'md5'): FileHash['algorithm'] {
  const algorithm = name.toLowerCase()
  return algorithm === 'sha256' || algorithm === 'sha512' ? algorithm : 'md5'
}
