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
import { type BuildHashes, parseBuildHashes } from './host/build-hashes.ts'
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
export const ANALYZER_VERSION = 3

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

/** The roles whose blobs are read whole, each with the largest size that is read. */
const PARSERS: Readonly<Record<Exclude<AnalyzedRole, 'kernel' | 'debug'>, Parser>> = {
  'opam-switch': { bytesMax: OPAM_BYTES_MAX, parse: parseOpamSwitch },
  'system-packages': { bytesMax: SYSTEM_PACKAGES_BYTES_MAX, parse: parseSystemPackages },
  'build-environment': { bytesMax: BUILD_ENVIRONMENT_BYTES_MAX, parse: parseBuildEnvironment },
  'build-hashes': { bytesMax: OPAM_BYTES_MAX, parse: parseBuildHashes },
  config: { bytesMax: CONFIG_BYTES_MAX, parse: parseConfig },
}

/** True for the roles of `analyzeBlob`. */
export function isAnalyzedRole(role: string): role is AnalyzedRole {
  return role === 'kernel' || role === 'debug' || Object.hasOwn(PARSERS, role)
}

/**
 * Analyzes a blob as one role: reads only headers and notes of kernels, and all bytes of other blobs
 * up to the limit of their role. A malformed blob is a problem and not an error; throws only what
 * `read` throws.
 */
export async function analyzeBlob(role: AnalyzedRole, source: BlobSource): Promise<LayerAnalysis> {
  const sha256 = algorithmOf(source.digest) === 'sha256' ? source.digest.slice(7) : undefined
  if (role === 'kernel' || role === 'debug') {
    return { sha256, ...(await withProblem(() => findSolo5Kernel(source.size, source.read))) }
  }
  const { bytesMax, parse } = PARSERS[role]
  if (source.size > bytesMax) {
    const problem = `it has ${source.size} bytes; at most ${bytesMax} are read`
    return { sha256, value: undefined, problem }
  }
  const bytes = source.size === 0 ? Buffer.alloc(0) : await source.read(0, source.size - 1)
  const digest = sha256 ?? createHash('sha256').update(bytes).digest('hex')
  const { value, problem } = await withProblem(() => parse(bytes))
  return { sha256: digest, value, problem: problem ?? findEmptiness(value) }
}

/** A list without entries is well formed, but it is no provenance. */
function findEmptiness(value: AnalysisValues[AnalyzedRole] | undefined): string | undefined {
  if (value === undefined) return undefined
  if ('installed' in value && value.installed.length === 0) return 'it lists no installed package'
  if ('manager' in value && value.packages.length === 0) return 'it lists no package'
  if ('variables' in value && value.variables.length === 0) return 'it has no variable'
  return undefined
}

async function withProblem(
  read: () =>
    | AnalysisValues[AnalyzedRole]
    | undefined
    | Promise<AnalysisValues[AnalyzedRole] | undefined>,
): Promise<Pick<LayerAnalysis, 'value' | 'problem'>> {
  try {
    return { value: await read(), problem: undefined }
  } catch (error) {
    if (!isMalformed(error)) throw error
    return { value: undefined, problem: error.message }
  }
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
