import { Buffer } from 'node:buffer'
import type { Role } from './format.ts'
import { isSystemPackage } from './host/system-packages.ts'

/** The bytes of a part that decide what it looks like. */
export const HEAD_BYTES = 64 * 1024
const LINES_MAX = 100
/** Fewer lines could be anything. */
const LIST_LINES_MIN = 3
const PACKAGES_SHARE_MIN = 0.9

/** The kind of a part, as its first bytes show it. A debug twin looks like a kernel. */
export type Likeness = Exclude<Role, 'debug' | 'console' | 'readme'> | 'config'

const NAMES: Readonly<Record<Likeness, string>> = {
  kernel: 'a kernel (ELF)',
  'opam-switch': 'an opam switch',
  'opam-lock': 'a lock file of opam',
  'system-packages': 'a list of system packages',
  'build-environment': 'a build environment',
  'build-hashes': 'build hashes',
  script: 'a script',
  config: 'JSON, such as a config',
}

/** Recognizes a part of an image by its first HEAD_BYTES. Undefined for anything else. */
export function recognizePart(head: Uint8Array): Likeness | undefined {
  const text = Buffer.from(head.subarray(0, HEAD_BYTES)).toString()
  if (text.startsWith('\x7fELF')) return 'kernel'
  if (text.startsWith('#!')) return 'script'
  if (text.trimStart().startsWith('{')) return 'config'
  const lines = text
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '')
    .slice(0, LINES_MAX)
  const count = (test: (line: string) => boolean) => lines.filter(test).length
  if (count((line) => /^(?:roots|installed|compiler): ?\[/.test(line)) > 0) return 'opam-switch'
  if (/^x-opam-monorepo-(?:duniverse-dirs|root-packages):/m.test(text)) return 'opam-lock'
  // `opam lock` writes no field of its own: it depends on exact versions.
  const locked = count((line) => /^ {1,8}"[A-Za-z0-9_+-]{1,255}" ?\{= "/.test(line))
  if (locked > 1 && count((line) => /^depends: ?\[/.test(line)) > 0) return 'opam-lock'
  if (count((line) => /^(?:added|removed|[a-z]+-changed): ?\[/.test(line)) > 0) {
    return 'build-hashes'
  }
  if (lines.length < LIST_LINES_MIN) return undefined
  // Names of variables have capitals, and those of packages do not.
  if (count((line) => /^[A-Z_][A-Z0-9_]*=/.test(line)) > lines.length / 2) {
    return 'build-environment'
  }
  const packages = count((line) => /\d/.test(line) && isSystemPackage(line))
  return packages >= lines.length * PACKAGES_SHARE_MIN ? 'system-packages' : undefined
}

/** Says what a part of one role looks like instead, to follow a subject. Undefined when it may be of this role. */
export function findUnlikeness(role: Role | 'config', head: Uint8Array): string | undefined {
  const found = recognizePart(head)
  if (found === undefined || found === (role === 'debug' ? 'kernel' : role)) return undefined
  return describeLikeness(found)
}

/** Says what a part looks like, in a clause. */
export function describeLikeness(likeness: Likeness): string {
  return `it looks like ${NAMES[likeness]}`
}
