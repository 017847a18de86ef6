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
import { findSolo5Kernel, type Solo5Kernel } from './kernel/solo5.ts'
import { MalformedOpamError, OPAM_BYTES_MAX } from './opam/lexer.ts'
import { type OpamSwitch, parseOpamSwitch } from './opam/switch.ts'

/** Increased whenever the analysis changes: earlier analyses are then made again. */
export const ANALYZER_VERSION = 4

/** The result of the analysis of a blob, by its role. */
export type AnalysisValues = {
  readonly kernel: Solo5Kernel
  readonly debug: Solo5Kernel
  readonly 'opam-switch': OpamSwitch
  readonly 'system-packages': SystemPackages
  readonly 'build-environment': BuildEnvironment
  readonly 'build-hashes': BuildHashes
  readonly config: UnikernelConfig
}
/** A role whose blobs are analyzed. Blobs of other roles are only stored. */
export type AnalyzedRole = keyof AnalysisValues

/**
 * The analysis of a blob as one role. Without a value and a problem, the blob is not a Solo5
 * kernel: that is no problem, because a layer need not be one.
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
}

/** A blob with ranged reads. */
export type BlobSource = {
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  readonly read: ReadRange
}

type Parser = { readonly bytesMax: number; parse(bytes: Uint8Array): AnalysisValues[AnalyzedRole] }

/** A role whose blobs are read whole. */
export type WholeRole = Exclude<AnalyzedRole, 'kernel' | 'debug'>

/** The roles whose blobs are read whole, each with the largest size that is read. */
const PARSERS: Readonly<Record<WholeRole, Parser>> = {
  'opam-switch': { bytesMax: OPAM_BYTES_MAX, parse: parseOpamSwitch },
  'system-packages': { bytesMax: SYSTEM_PACKAGES_BYTES_MAX, parse: parseSystemPackages },
  'build-environment': { bytesMax: BUILD_ENVIRONMENT_BYTES_MAX, parse: parseBuildEnvironment },
  'build-hashes': { bytesMax: BUILD_HASHES_BYTES_MAX, parse: parseBuildHashes },
  config: { bytesMax: CONFIG_BYTES_MAX, parse: parseConfig },
}

/** True for the roles of `analyzeBlob`. */
export function isAnalyzedRole(role: string): role is AnalyzedRole {
  return role === 'kernel' || role === 'debug' || Object.hasOwn(PARSERS, role)
}

/** Analyzes all bytes of a blob as one role. `analyzeBytes`, or the same in another thread. */
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
  if (role === 'kernel' || role === 'debug') {
    try {
      const value = await findSolo5Kernel(size, source.read)
      return { sha256: sha256Of(digest), value, problem: undefined }
    } catch (error) {
      return { sha256: sha256Of(digest), value: undefined, problem: problemOf(error) }
    }
  }
  const { bytesMax } = PARSERS[role]
  if (size > bytesMax) {
    const problem = `it has ${size} bytes; at most ${bytesMax} are read`
    return { sha256: sha256Of(digest), value: undefined, problem }
  }
  return analyze(role, digest, size === 0 ? Buffer.alloc(0) : await source.read(0, size - 1))
}

/** Analyzes all bytes of a blob as one role. A malformed blob is a problem and not an error. */
export function analyzeBytes(role: WholeRole, digest: Digest, bytes: Uint8Array): LayerAnalysis {
  const sha256 = sha256Of(digest) ?? createHash('sha256').update(bytes).digest('hex')
  try {
    const value = PARSERS[role].parse(bytes)
    return { sha256, value, problem: findEmptiness(value) }
  } catch (error) {
    return { sha256, value: undefined, problem: problemOf(error) }
  }
}

function sha256Of(digest: Digest): string | undefined {
  return algorithmOf(digest) === 'sha256' ? digest.slice(7) : undefined
}

/** A list without entries is well formed, but it is no provenance. */
function findEmptiness(value: AnalysisValues[AnalyzedRole]): string | undefined {
  if ('installed' in value && value.installed.length === 0) return 'it lists no installed package'
  if ('manager' in value && value.packages.length === 0) return 'it lists no package'
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
