import type { Digest } from '../oci/digest.ts'
import type { BuildResultWord } from './build-words.tsx'

/** A build in a list. */
export type BuildItem = {
  readonly id: string
  readonly digest: Digest
  /** False when the manifest was deleted. */
  readonly exists: boolean
  readonly kernelDigest: Digest | null
  /** In bytes. */
  readonly kernelSize: number | null
  readonly inputId: string | null
  readonly result: BuildResultWord
  readonly exitCode: number | null
  readonly signal: number | null
  readonly message: string | null
  readonly platform: string | null
  /** Null for a caller who may not see it. */
  readonly builder: string | null
  readonly startedAt: Date | null
  readonly finishedAt: Date | null
  readonly recordedAt: Date
  /** Other builds in the repository from the same inputs with the same kernel. */
  readonly same: number
  /** The same with another kernel. */
  readonly other: number
}
