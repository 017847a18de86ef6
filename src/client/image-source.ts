import { createHash } from 'node:crypto'
import type { Descriptor } from '../oci/descriptor.ts'
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts'
import type { Manifest } from '../oci/manifest.ts'
import {
  type AnalysisLookup,
  assembleImage,
  findKernel,
  kernelCandidates,
  planProvenance,
} from '../unikernel/assembly.ts'
import type { UnikernelImage } from '../unikernel/image.ts'
import type { ReadRange } from '../unikernel/kernel/elf-bytes.ts'
import { type AnalyzedRole, analyzeBlob, type LayerAnalysis } from '../unikernel/layer-analysis.ts'
import { findDeclaredKernelHash } from '../unikernel/validation.ts'

/** Where the parts of an image are: files here, or blobs elsewhere. */
export type ImageSource = {
  /** Some bytes of a part. */
  rangeOf(part: Descriptor): ReadRange
  /** All bytes of a part, as they come. */
  open(digest: Digest): Promise<AsyncIterable<Uint8Array>>
}

/** What was read out of an image. */
export type ReadImage = {
  /** Undefined when it has no Solo5 kernel. */
  readonly image: UnikernelImage | undefined
  readonly findFacts: AnalysisLookup
}

/** A blob is not what its digest says. The message is one line. */
export class DigestMismatchError extends Error {
  override readonly name = 'DigestMismatchError'
}

/**
 * Reads the parts of an image manifest that the format knows: of kernels headers and notes, of others
 * everything, held against its digest. Throws DigestMismatchError, and what the store throws.
 */
export async function readImage(manifest: Manifest, store: ImageSource): Promise<ReadImage> {
  const known = new Map<string, LayerAnalysis>()
  // What was put under a role was read as that role.
  const findFacts: AnalysisLookup = <R extends AnalyzedRole>(digest: Digest, role: R) =>
    known.get(`${role} ${digest}`) as LayerAnalysis<R> | undefined
  const read = async (part: Descriptor, role: AnalyzedRole) => {
    const key = `${role} ${part.digest}`
    if (known.has(key)) return
    const { digest, size } = part
    known.set(key, await analyzeBlob(role, { digest, size, read: checked(part, store) }))
  }
  for (const part of kernelCandidates(manifest)) await read(part, 'kernel')
  const kernel = findKernel(manifest, findFacts)
  if (kernel !== undefined) {
    for (const { part, role } of planProvenance(manifest, kernel)) await read(part, role)
  }
  return { image: assembleImage(manifest, findFacts), findFacts }
}

/** What the build hashes say of the kernel, and what it is. Undefined when they say nothing of it. */
export async function compareBuildHash(
  image: UnikernelImage,
  store: ImageSource,
): Promise<{ algorithm: string; said: string; found: string } | undefined> {
  const hash = findDeclaredKernelHash(image)
  if (hash === undefined) return undefined
  const { algorithm, said, known } = hash
  return { algorithm, said, found: known ?? (await hashOf(store, image.kernel.digest, algorithm)) }
}

/** Reads a part to its end. Throws DigestMismatchError when it is not what its digest says. */
export async function verifyPart(store: ImageSource, part: Descriptor): Promise<void> {
  const algorithm = algorithmOf(part.digest)
  const found = `${algorithm}:${await hashOf(store, part.digest, algorithm)}`
  if (found !== part.digest) throw otherBytes(part, found)
}

async function hashOf(store: ImageSource, digest: Digest, algorithm: string): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of await store.open(digest)) hash.update(chunk)
  return hash.digest('hex')
}

/** What is read whole is held against its digest; a part of it cannot be. */
function checked(part: Descriptor, store: ImageSource): ReadRange {
  const range = store.rangeOf(part)
  return async (start, end) => {
    const bytes = await range(start, end)
    if (start === 0 && end === part.size - 1) {
      const found = digestOf(bytes, algorithmOf(part.digest))
      if (found !== part.digest) throw otherBytes(part, found)
    }
    return bytes
  }
}

function otherBytes({ digest }: Descriptor, found: string): DigestMismatchError {
  return new DigestMismatchError(`the blob ${digest} has other bytes: their digest is ${found}`)
}
