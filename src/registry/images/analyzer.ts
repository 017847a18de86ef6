import type { Database, Transaction } from '../../db/database.ts'
import { listChildren, putImage } from '../../db/images/images.ts'
import type { AnalyzedBlobRow } from '../../db/images/layer-analyses.ts'
import type { Deriver } from '../../derivation/deriver.ts'
import { invalidManifest } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Layer, Manifest } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import { BlobMissingError, type BlobStore } from '../../storage/blob-store.ts'
import { kernelCandidates } from '../../unikernel/assembly.ts'
import { abiVersionOf, devicesOf, type UnikernelImage } from '../../unikernel/image.ts'
import { analyzeBlob } from '../../unikernel/layer-analysis.ts'
import { compareBuildHash, readImage } from '../../unikernel/read-image.ts'
import {
  assertBuildHash,
  assertRolesUnique,
  validateChild,
  validateImage,
} from '../../unikernel/validation.ts'
import { AnalyzedBlobs } from './analyzed-blobs.ts'
import { loadBlobRows } from './blob-rows.ts'

/** The analysis of a manifest, before its transaction. */
export type ImageAnalysis = {
  /** Undefined when it is not a unikernel. Large values that were stored earlier are left out. */
  readonly image: UnikernelImage | undefined
  /** The blob rows of its layers. */
  readonly layers: readonly { readonly blobId: number; readonly role: string }[]
  /** Its layers and its config, as they were before. Undefined when the analysis did not need them. */
  readonly blobs?: readonly AnalyzedBlobRow[]
}

const NO_IMAGE: ImageAnalysis = { image: undefined, layers: [] }

/** Analyzes and validates pushed images. A blob is analyzed once for all images that have it. */
export class ImageAnalyzer {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #deriver: Deriver

  constructor(db: Database, store: BlobStore, deriver: Deriver) {
    this.#db = db
    this.#store = store
    this.#deriver = deriver
  }

  /**
   * Analyzes the blobs of a manifest for a client, such as its pusher; blobs missing from the repository are skipped.
   * Throws MANIFEST_INVALID for a contradiction, MANIFEST_BLOB_UNKNOWN for a lost blob, and UNAVAILABLE.
   */
  async analyze(
    repository: Repository,
    manifest: Manifest,
    client: string,
  ): Promise<ImageAnalysis> {
    if (manifest.children.some(({ platform }) => platform?.os === 'solo5')) {
      await this.#validateChildren(repository, manifest)
    }
    assertRolesUnique(manifest)
    const candidates = kernelCandidates(manifest)
    if (candidates.length === 0) {
      validateImage(manifest, undefined, () => undefined)
      return NO_IMAGE
    }
    return retryWhenSwept(() => this.#analyzeImage(repository, manifest, candidates, client))
  }

  async #analyzeImage(
    repository: Repository,
    manifest: Manifest,
    candidates: readonly Layer[],
    client: string,
  ): Promise<ImageAnalysis> {
    const { config, layers } = manifest
    const digests = [...new Set([...layers, ...(config ? [config] : [])].map((one) => one.digest))]
    const blobs = await this.#loadBlobs(repository, digests, client)
    const image = await readImage(manifest, blobs.open, blobs.cache, blobs.analyze)
    if (image === undefined) {
      // Negative results are stored as well, so that the next push opens nothing.
      await blobs.save(this.#db)
      // When a candidate is missing, the push is refused later, for the unknown blob.
      const isComplete = candidates.every(({ digest }) => blobs.has(digest))
      if (isComplete) validateImage(manifest, undefined, blobs.cache.find)
      return { ...NO_IMAGE, blobs: blobs.rows }
    }
    validateImage(manifest, image, blobs.cache.find)
    const hash = await compareBuildHash(image, (algorithm) =>
      blobs.hash(image.kernel.digest, algorithm),
    )
    if (hash !== undefined) assertBuildHash(hash)
    await blobs.save(this.#db)
    return { image, layers: blobs.layersOf(image), blobs: blobs.rows }
  }

  /**
   * True when a blob of the repository is a Solo5 kernel. Throws MANIFEST_INVALID for a malformed
   * kernel, and UNAVAILABLE.
   */
  isKernel(repository: Repository, layer: Layer): Promise<boolean> {
    return retryWhenSwept(() => this.#isKernel(repository, layer))
  }

  async #isKernel(repository: Repository, { digest, ...layer }: Layer): Promise<boolean> {
    const blobs = await this.#loadBlobs(repository, [digest])
    const source = blobs.open({ digest, ...layer })
    if (source === undefined) return false
    const stored = blobs.cache.find(digest, 'kernel')
    const analysis = stored ?? (await analyzeBlob('kernel', source))
    if (stored === undefined) {
      blobs.cache.add({ digest, role: 'kernel', analysis })
      await blobs.save(this.#db)
    }
    if (analysis.problem !== undefined) {
      throw invalidManifest(digest, `is not a kernel: ${analysis.problem}`)
    }
    const file = blobs.cache.find(digest, 'kernel')?.value
    return file?.solo5 !== undefined
  }

  async #loadBlobs(
    repository: Repository,
    digests: readonly Digest[],
    client = '',
  ): Promise<AnalyzedBlobs> {
    const rows = await loadBlobRows(this.#db, repository, digests)
    return new AnalyzedBlobs(rows, this.#store, this.#deriver, client)
  }

  async #validateChildren(repository: Repository, { children }: Manifest): Promise<void> {
    const digests = children.map(({ digest }) => digest)
    const rows = new Map(
      (await listChildren(this.#db, repository, digests)).map((row) => [row.digest, row]),
    )
    for (const child of children) {
      const row = rows.get(child.digest)
      // A missing child is refused when the index is put.
      if (row === undefined || !row.isAnalyzed) continue
      const { target, architecture, isSolo5 } = row
      validateChild(
        child,
        target === null ? undefined : { target, architecture: architecture ?? undefined, isSolo5 },
      )
    }
  }
}

// A blob that no manifest names yet may be swept between the query and the read, and pushed anew. One that the store lost
// is marked by the read, which the next query sees.
const ATTEMPTS_MAX = 5

/** Queries again when a blob's bytes were removed after the query. */
async function retryWhenSwept<T>(analyze: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await analyze()
    } catch (error) {
      // Bytes that are still missing then are our fault.
      if (!(error instanceof BlobMissingError) || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

/** Records the image of a manifest in the transaction of its push. */
export async function recordImage(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  { image, layers }: ImageAnalysis,
): Promise<void> {
  if (image === undefined) return
  const { kernel, inputId } = image
  const { target, architecture } = kernel
  await putImage(tx, {
    repositoryId,
    digest,
    kernelDigest: kernel.digest,
    // Postgres takes no NUL in text.
    kernelTitle: kernel.title?.replaceAll('\0', ''),
    target,
    abiVersion: abiVersionOf(kernel),
    architecture,
    devices: devicesOf(kernel)?.map(({ kind, name }) => `${kind}:${name}`),
    inputId,
    layers,
  })
}
