import type { Descriptor } from '../oci/descriptor.ts'
import type { Manifest } from '../oci/manifest.ts'
import type { AnalysisCache } from './analysis-cache.ts'
import { assembleImage, findKernel, kernelCandidates, planProvenance } from './assembly.ts'
import type { UnikernelImage } from './image.ts'
import {
  type AnalyzeBytes,
  type AnalyzedRole,
  analyzeBlob,
  analyzeBytes,
  type BlobSource,
} from './layer-analysis.ts'
import { type BuildHashComparison, findDeclaredKernelHash } from './validation.ts'

/** Opens a blob for ranged reads. Undefined when the blob is missing: it is skipped. */
export type OpenBlob = (blob: Descriptor) => BlobSource | undefined

/**
 * Reads the image of a manifest: analyzes the kernel candidates, then the provenance of the kernel
 * among them. Blobs whose analysis is in `cache` are not opened; new analyses are added to it, also
 * those of layers that are not kernels. Returns undefined when there is no kernel. Throws only
 * what `open`, its reads and `analyzeWhole` throw.
 */
export async function readImage(
  manifest: Manifest,
  open: OpenBlob,
  cache: AnalysisCache,
  analyzeWhole: AnalyzeBytes = analyzeBytes,
): Promise<UnikernelImage | undefined> {
  const analyze = async (blob: Descriptor, role: AnalyzedRole) => {
    const { digest } = blob
    if (cache.find(digest, role) !== undefined) return
    const source = open(blob)
    if (source === undefined) return
    cache.add({ digest, role, analysis: await analyzeBlob(role, source, analyzeWhole) })
  }
  // Each read takes some KB, so all run at once. A blob that several layers have is read once.
  const candidates = new Map(kernelCandidates(manifest).map((layer) => [layer.digest, layer]))
  await Promise.all([...candidates.values()].map((layer) => analyze(layer, 'kernel')))
  const kernel = findKernel(manifest, cache.find)
  if (kernel === undefined) return undefined
  // One after the other, so that only one list is in memory at a time.
  for (const { blob, role } of planProvenance(manifest, kernel)) await analyze(blob, role)
  return assembleImage(manifest, cache.find)
}

/**
 * Compares the kernel with its hash in the build hashes; undefined when they have none. `hashKernel`
 * is called only for an algorithm other than that of the kernel's digest, because it costs a read of
 * the whole kernel.
 */
export async function compareBuildHash(
  image: UnikernelImage,
  hashKernel: (algorithm: string) => Promise<string>,
): Promise<BuildHashComparison | undefined> {
  const hash = findDeclaredKernelHash(image)
  if (hash === undefined) return undefined
  const { algorithm, declared, fromDigest } = hash
  return { algorithm, declared, found: fromDigest ?? (await hashKernel(algorithm)) }
}
