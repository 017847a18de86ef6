import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { algorithmOf, type Digest } from '../oci/digest.ts'
import {
  CONFIG_BYTES_MAX,
  MalformedConfigError,
  parseConfig,
  type UnikernelConfig,
} from './config.ts'
import {
  BUILD_ENVIRONMENT_BYTES_MAX,
  type BuildEnvironment,
  parseBuildEnvironment,
} from './host/build-environment.ts'
import { BUILD_HASHES_BYTES_MAX, type BuildHashes, parseBuildHashes } from './host/build-hashes.ts'
import {
  MalformedPackagesError,
  parseSystemPackages,
  SYSTEM_PACKAGES_BYTES_MAX,
  type SystemPackages,
} from './host/system-packages.ts'
import { MalformedKernelError, type ReadRange } from './kernel/elf-bytes.ts'
import { type KernelFile, readKernelFile } from './kernel/kernel-file.ts'
import { findUnlikeness, HEAD_BYTES } from './likeness.ts'
import { MalformedOpamError, OPAM_BYTES_MAX } from './opam/lexer.ts'
import { type OpamLock, parseOpamLock } from './opam/lock.ts'
import { type OpamSummary, summarizeOpam } from './opam/summary.ts'
import { type OpamSwitch, parseOpamSwitch } from './opam/switch.ts'

// Longer ones are no text about a project.
const README_BYTES_MAX = 1024 * 1024

/** Increased whenever the analysis changes: earlier analyses are then made again. */
export const ANALYZER_VERSION = 8

/** The result of the analysis of a blob, by its role. */
export type AnalysisValues = {
  readonly kernel: KernelFile
  readonly debug: KernelFile
  readonly 'opam-switch': OpamSwitch
  readonly 'opam-lock': OpamLock
  readonly 'system-packages': SystemPackages
  readonly 'build-environment': BuildEnvironment
  readonly 'build-hashes': BuildHashes
  readonly config: UnikernelConfig
  /** Only recognized when it is another part. */
  readonly console: undefined
  readonly script: undefined
  readonly readme: undefined
}
/** A role whose blobs are analyzed. Blobs of other roles are only stored. */
export type AnalyzedRole = keyof AnalysisValues

/**
 * The analysis of a blob as one role. Without a value, the blob is malformed, or its role has none.
 */
export type LayerAnalysis<R extends AnalyzedRole = AnalyzedRole> = {
  readonly value: AnalysisValues[R] | undefined
  /** Why the blob could not be parsed, or has no content, in one line. */
  readonly problem: string | undefined
  /**
   * SHA-256 of the bytes, in hexadecimal. Undefined when the blob is too large and its digest has
   * another algorithm.
   */
  readonly sha256: string | undefined
  /** The part of an opam switch or a lock file that is there also when its value was left out. */
  readonly summary?: OpamSummary | undefined
}

/** A blob with ranged reads. */
export type BlobSource = {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly read: ReadRange
}

type Value = AnalysisValues[WholeRole]
type Parser = { readonly bytesMax: number; parse(bytes: Uint8Array): Value }

/** A role whose blobs are read whole. */
export type WholeRole = Exclude<AnalyzedRole, 'kernel' | 'debug' | HeadRole>
/** A role of which only the first bytes are read. */
type HeadRole = 'console' | 'script' | 'readme'

/** The roles whose blobs are read whole, each with the largest size that is read. */
const PARSERS: Readonly<Record<WholeRole, Parser>> = {
  'opam-switch': { bytesMax: OPAM_BYTES_MAX, parse: parseOpamSwitch },
  'opam-lock': { bytesMax: OPAM_BYTES_MAX, parse: parseOpamLock },
  'system-packages': { bytesMax: SYSTEM_PACKAGES_BYTES_MAX, parse: parseSystemPackages },
  'build-environment': { bytesMax: BUILD_ENVIRONMENT_BYTES_MAX, parse: parseBuildEnvironment },
  'build-hashes': { bytesMax: BUILD_HASHES_BYTES_MAX, parse: parseBuildHashes },
  config: { bytesMax: CONFIG_BYTES_MAX, parse: parseConfig },
}

/** True for the roles of `analyzeBlob`. */
export function isAnalyzedRole(role: string): role is AnalyzedRole {
  return isKernelRole(role) || isHeadRole(role) || Object.hasOwn(PARSERS, role)
}

/** Analyzes all bytes of a blob as one role. `analyzeBytes`, or the same in another process. */
export type AnalyzeBytes = (
  role: WholeRole,
  digest: Digest,
  bytes: Uint8Array,
) => LayerAnalysis | Promise<LayerAnalysis>

/**
 * Analyzes a blob as one role: reads only headers and notes of kernels, and all bytes of other blobs
 * up to the limit of their role. A malformed blob is a problem and not an error; throws only what
 * `read` and `analyze` throw.
 */
export async function analyzeBlob(
  role: AnalyzedRole,
  source: BlobSource,
  analyze: AnalyzeBytes = analyzeBytes,
): Promise<LayerAnalysis> {
  const { digest, size } = source
  const head = async () => (size === 0 ? EMPTY : source.read(0, Math.min(size, HEAD_BYTES) - 1))
  if (isHeadRole(role)) {
    const problem =
      role === 'readme' && size > README_BYTES_MAX
        ? `it has ${size} bytes; a README has at most ${README_BYTES_MAX}`
        : findUnlikeness(role, await head())
    return { sha256: sha256Of(digest), value: undefined, problem }
  }
  if (isKernelRole(role)) {
    try {
      const value = await readKernelFile(size, source.read)
      // A layer without a role may be anything, and is no kernel then.
      const isOther = value.solo5 === undefined && role === 'debug'
      const problem = isOther ? findUnlikeness(role, await head()) : undefined
      return { sha256: sha256Of(digest), value, problem }
    } catch (error) {
      return { sha256: sha256Of(digest), value: undefined, problem: problemOf(error) }
    }
  }
  const { bytesMax } = PARSERS[role]
  if (size > bytesMax) {
    const problem = `it has ${size} bytes; at most ${bytesMax} are read`
    return { sha256: sha256Of(digest), value: undefined, problem }
  }
  return analyze(role, digest, size === 0 ? EMPTY : await source.read(0, size - 1))
}

const EMPTY = Buffer.alloc(0)

function isKernelRole(role: string): role is 'kernel' | 'debug' {
  return role === 'kernel' || role === 'debug'
}

function isHeadRole(role: string): role is HeadRole {
  return role === 'console' || role === 'script' || role === 'readme'
}

const TRUSTED: readonly WholeRole[] = ['opam-switch', 'opam-lock', 'config']

/** Analyzes all bytes of a blob as one role. A malformed blob is a problem and not an error. */
export function analyzeBytes(role: WholeRole, digest: Digest, bytes: Uint8Array): LayerAnalysis {
  const sha256 = sha256Of(digest) ?? createHash('sha256').update(bytes).digest('hex')
  try {
    const value = PARSERS[role].parse(bytes)
    const problem = findEmptiness(value)
    // A parser that refuses other syntax knows its role better than the first bytes show it.
    const isTrusted = problem === undefined && TRUSTED.includes(role)
    const summary = 'mirage' in value ? summarizeOpam(value) : undefined
    return {
      ...{ sha256, value, summary },
      problem: isTrusted ? undefined : withLikeness(role, bytes, problem),
    }
  } catch (error) {
    return { sha256, value: undefined, problem: withLikeness(role, bytes, problemOf(error)) }
  }
}

/** Adds to a problem which other part the bytes look like: parts that were swapped are noticed by it. */
function withLikeness(
  role: WholeRole,
  bytes: Uint8Array,
  problem: string | undefined,
): string | undefined {
  const other = findUnlikeness(role, bytes)
  return problem === undefined || other === undefined ? (problem ?? other) : `${problem}; ${other}`
}

function sha256Of(digest: Digest): string | undefined {
  return algorithmOf(digest) === 'sha256' ? digest.slice(7) : undefined
}

/** A list without entries is well formed, but it is no provenance. */
function findEmptiness(value: Value): string | undefined {
  if ('installed' in value && value.installed.length === 0) return 'it lists no installed package'
  if ('locked' in value && value.locked.length === 0) return 'it locks no package'
  if ('manager' in value && value.packages.length === 0) {
    return value.problems.length === 0
      ? 'it lists no package'
      : 'it is a list of no known package manager: those of Debian, Alpine and FreeBSD are read'
  }
  if ('variables' in value && value.variables.length === 0) return 'it has no variable'
  return undefined
}

/** Returns the message of an error about a malformed blob. Throws other errors. */
function problemOf(error: unknown): string {
  if (!isMalformed(error)) throw error
  return error.message
}

function isMalformed(error: unknown): error is Error {
  const kinds = [
    MalformedKernelError,
    MalformedOpamError,
    MalformedPackagesError,
    MalformedConfigError,
  ]
  return kinds.some((kind) => error instanceof kind)
}
