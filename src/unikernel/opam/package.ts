/** A package and its version, both checked, such as `dune` and `3.24.2`. */
export type OpamPackage = { readonly name: string; readonly version: string }

/** A checksum, in lower case: opam manual, "Checksums". */
export type OpamChecksum = `${keyof typeof HEX_DIGITS}=${string}`

/** The source of a package's bytes. */
export type OpamSource = {
  /** As in opam's file, such as `https://…` or `git+https://…#commit`. */
  readonly url: string
  /** Without duplicates, in order. */
  readonly checksums: readonly OpamChecksum[]
}

// More packages than opam's repository has names. Switches of unikernels have at most some hundreds.
export const OPAM_PACKAGES_MAX = 5_000

// opam has no limits; no name in its repository has more than 60 characters. Short enough for an
// index.
export const OPAM_NAME_MAX = 255
export const OPAM_VERSION_MAX = 255

const HEX_DIGITS = { md5: 32, sha256: 64, sha512: 128 } as const

/** Letters, digits, `_`, `-` and, as in `conf-g++`, `+`, with at least one letter. */
export function isOpamName(text: string): boolean {
  return text.length <= OPAM_NAME_MAX && /^[A-Za-z0-9_+-]+$/.test(text) && /[A-Za-z]/.test(text)
}

/** Opam manual, "Package Formulas": not empty, with letters, digits and `_-+.~`. */
export function isOpamVersion(text: string): boolean {
  return text.length <= OPAM_VERSION_MAX && /^[A-Za-z0-9_+.~-]+$/.test(text)
}

/** Parses `name.version`; the name ends at the first dot. Undefined when malformed. */
export function findOpamPackage(text: string): OpamPackage | undefined {
  const dot = text.indexOf('.')
  const [name, version] = [text.slice(0, dot), text.slice(dot + 1)]
  return dot !== -1 && isOpamName(name) && isOpamVersion(version) ? { name, version } : undefined
}

/** Parses `sha256=…`; without an algorithm it is MD5. Undefined when malformed. */
export function findOpamChecksum(text: string): OpamChecksum | undefined {
  const [, algorithm = 'md5', digits = ''] = /^(?:([a-z0-9]+)=)?([0-9a-f]+)$/i.exec(text) ?? []
  const kind = algorithm.toLowerCase()
  if (!isAlgorithm(kind) || digits.length !== HEX_DIGITS[kind]) return undefined
  return `${kind}=${digits.toLowerCase()}`
}

function isAlgorithm(text: string): text is keyof typeof HEX_DIGITS {
  return Object.hasOwn(HEX_DIGITS, text)
}
