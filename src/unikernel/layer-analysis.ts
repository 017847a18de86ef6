import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { algorithmOf, type Digest } from '../oci/digest.ts'
import {
  CONFIG_BYTES_MAX,
  MalformedConfigError,
  parseConfig,
  type UnikernelConfig,
} from './config.ts'
import type { Role } from './format.ts'
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

/** Grows when layers are read in another way: what was read before is read again. */
export const ANALYZER_VERSION = 2

/** What comes of each part that is read. */
export type AnalysisValues = {
  readonly kernel: Solo5Kernel
  readonly debug: Solo5Kernel
  readonly 'opam-switch': OpamSwitch
  readonly 'system-packages': SystemPackages
  readonly 'build-environment': BuildEnvironment
  readonly 'build-hashes': BuildHashes
  readonly config: UnikernelConfig
}
/** A part of an image that is read; the others are stored, and that is all. */
export type AnalyzedRole = keyof AnalysisValues

/**
 * What was read out of one part. Without a value and a problem, it is no Solo5 kernel, and nobody
 * said that it was one.
 */
export type LayerAnalysis<R extends AnalyzedRole = AnalyzedRole> = {
  readonly value: AnalysisValues[R] | undefined
  /** Why it was not understood, or of what use it is not, in one line. */
  readonly problem: string | undefined
  /** Of the bytes, in hexadecimal. Undefined for what is too large and not named by it. */
  readonly sha256: string | undefined
}

/** Bytes that lie elsewhere. */
export type BlobSource = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly read: ReadRange
}

type Whole = { readonly bytesMax: number; parse(bytes: Uint8Array): AnalysisValues[AnalyzedRole] }

/** The parts that are read whole, with the size of what is read at all. */
const WHOLE: Readonly<Record<Exclude<AnalyzedRole, 'kernel' | 'debug'>, Whole>> = {
  'opam-switch': { bytesMax: OPAM_BYTES_MAX, parse: parseOpamSwitch },
  'system-packages': { bytesMax: SYSTEM_PACKAGES_BYTES_MAX, parse: parseSystemPackages },
  'build-environment': { bytesMax: BUILD_ENVIRONMENT_BYTES_MAX, parse: parseBuildEnvironment },
  'build-hashes': { bytesMax: OPAM_BYTES_MAX, parse: parseBuildHashes },
  config: { bytesMax: CONFIG_BYTES_MAX, parse: parseConfig },
}

/** True for what `readPart` reads. */
export function isAnalyzedRole(role: Role | 'config'): role is AnalyzedRole {
  return role === 'kernel' || role === 'debug' || role in WHOLE
}

/**
 * Reads a part of an image as what it is said to be: of kernels only headers and notes, of others
 * everything up to the limit of their kind. What is malformed is a problem and no error; throws only
 * what `read` throws.
 */
export async function analyzeBlob(role: AnalyzedRole, source: BlobSource): Promise<LayerAnalysis> {
  const sha256 = algorithmOf(source.digest) === 'sha256' ? source.digest.slice(7) : undefined
  if (role === 'kernel' || role === 'debug') {
    return { sha256, ...(await understood(() => findSolo5Kernel(source.size, source.read))) }
  }
  const { bytesMax, parse } = WHOLE[role]
  if (source.size > bytesMax) {
    const problem = `it has ${source.size} bytes, and ${bytesMax} are read at most`
    return { sha256, value: undefined, problem }
  }
  const bytes = source.size === 0 ? Buffer.alloc(0) : await source.read(0, source.size - 1)
  const digest = sha256 ?? createHash('sha256').update(bytes).digest('hex')
  const { value, problem } = await understood(() => parse(bytes))
  return { sha256: digest, value, problem: problem ?? emptinessOf(value) }
}

/** What says nothing is read, and still tells nobody from what an image was made. */
function emptinessOf(value: AnalysisValues[AnalyzedRole] | undefined): string | undefined {
  if (value === undefined) return undefined
  if ('installed' in value && value.installed.length === 0) return 'it lists no installed package'
  if ('manager' in value && value.packages.length === 0) return 'it lists no package'
  if ('variables' in value && value.variables.length === 0) return 'it has no variable'
  return undefined
}

async function understood(
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
