/** A package and its version, both checked, such as `dune` and `3.24.2`. */
export type OpamPackage = { readonly name: string; readonly version: string }

/** A checksum, in lower case: opam manual, "Checksums". */
export type OpamChecksum = `${keyof typeof HEX_DIGITS}=${string}`

// opam has no limits; no name in its repository has more than 60 characters. An index has to bear it.
export const OPAM_NAME_MAX = 255
export const OPAM_VERSION_MAX = 255

const HEX_DIGITS = { md5: 32, sha256: 64, sha512: 128 } as const

/** Letters, digits, `_`, `-` and, as in `conf-g++`, `+`, and a letter among them. */
export function isOpamName(text: string): boolean {
  return text.length <= OPAM_NAME_MAX && /^[A-Za-z0-9_+-]+$/.test(text) && /[A-Za-z]/.test(text)
}

/** Opam manual, "Package Formulas": never empty, and letters, digits or some of `_-+.~`. */
export function isOpamVersion(text: string): boolean {
  return text.length <= OPAM_VERSION_MAX && /^[A-Za-z0-9_+.~-]+$/.test(text)
}

/** What `name.version` says; the name ends at the first dot. Undefined when it is none. */
export function findOpamPackage(text: string): OpamPackage | undefined {
  const dot = text.indexOf('.')
  const [name, version] = [text.slice(0, dot), text.slice(dot + 1)]
  return dot !== -1 && isOpamName(name) && isOpamVersion(version) ? { name, version } : undefined
}

/** What `sha256=…` says; without an algorithm it is MD5. Undefined when it is none. */
export function findOpamChecksum(text: string): OpamChecksum | undefined {
  const [, algorithm = 'md5', digits = ''] = /^(?:([a-z0-9]+)=)?([0-9a-f]+)$/i.exec(text) ?? []
  const kind = algorithm.toLowerCase()
  if (!isAlgorithm(kind) || digits.length !== HEX_DIGITS[kind]) return undefined
  return `${kind}=${digits.toLowerCase()}`
}

function isAlgorithm(text: string): text is keyof typeof HEX_DIGITS {
  return Object.hasOwn(HEX_DIGITS, text)
}
