import { createHash } from 'node:crypto'
import type { Descriptor } from '../oci/descriptor.ts'
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts'
import type { Manifest } from '../oci/manifest.ts'
import { AnalysisCache, type AnalysisLookup } from '../unikernel/analysis-cache.ts'
import type { UnikernelImage } from '../unikernel/image.ts'
import type { ReadRange } from '../unikernel/kernel/elf-bytes.ts'
import { compareBuildHash, readImage } from '../unikernel/read-image.ts'
import type { BuildHashComparison } from '../unikernel/validation.ts'

/** Reads the blobs of an image: local files, or blobs of a remote repository. */
export type ImageSource = {
  /** Ranged reads of a blob. */
  rangeOf(blob: Descriptor): ReadRange
  /** Streams all bytes of a blob. */
  open(digest: Digest): Promise<AsyncIterable<Uint8Array>>
}

/** An image that was read from a source. */
export type SourceImage = {
  /** Undefined when it has no Solo5 kernel. */
  readonly image: UnikernelImage | undefined
  readonly lookup: AnalysisLookup
}

/** A blob whose bytes have another digest. The message is one line. */
export class DigestMismatchError extends Error {
  override readonly name = 'DigestMismatchError'
}

/**
 * Reads an image from a source. Every blob that is read whole is verified by its digest; of kernels
 * only headers and notes are read. Throws DigestMismatchError, and what the source throws.
 */
export async function readSourceImage(
  manifest: Manifest,
  source: ImageSource,
): Promise<SourceImage> {
  const cache = new AnalysisCache()
  const open = (blob: Descriptor) => ({
    digest: blob.digest,
    size: blob.size,
    read: verifiedRange(blob, source),
  })
  return { image: await readImage(manifest, open, cache), lookup: cache.find }
}

/** Compares the kernel with its hash in the build hashes. Undefined when they have none. */
export function compareSourceHash(
  image: UnikernelImage,
  source: ImageSource,
): Promise<BuildHashComparison | undefined> {
  return compareBuildHash(image, (algorithm) => hashBlob(source, image.kernel.digest, algorithm))
}

/** Reads a whole blob. Throws DigestMismatchError when its bytes have another digest. */
export async function verifyBlob(source: ImageSource, blob: Descriptor): Promise<void> {
  const algorithm = algorithmOf(blob.digest)
  const found = `${algorithm}:${await hashBlob(source, blob.digest, algorithm)}`
  if (found !== blob.digest) throw mismatch(blob, found)
}

async function hashBlob(source: ImageSource, digest: Digest, algorithm: string): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of await source.open(digest)) hash.update(chunk)
  return hash.digest('hex')
}

/** Verifies a read of the whole blob by its digest; a part of it cannot be verified. */
function verifiedRange(blob: Descriptor, source: ImageSource): ReadRange {
  const range = source.rangeOf(blob)
  return async (start, end) => {
    const bytes = await range(start, end)
    if (start === 0 && end === blob.size - 1) {
      const found = digestOf(bytes, algorithmOf(blob.digest))
      if (found !== blob.digest) throw mismatch(blob, found)
    }
    return bytes
  }
}

function mismatch({ digest }: Descriptor, found: string): DigestMismatchError {
  return new DigestMismatchError(`the blob ${digest} has other bytes: their digest is ${found}`)
}
