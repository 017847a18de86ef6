import type { Database, Transaction } from '../../db/database.ts'
import { listChildren, putImage } from '../../db/images/images.ts'
import {
  type AnalyzedBlobRow,
  listAnalyzedBlobs,
  type NewAnalysis,
  putAnalyses,
} from '../../db/images/layer-analyses.ts'
import { type Descriptor, invalidManifest } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Layer, Manifest } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import { BlobMissingError, type BlobStore } from '../../storage/blob-store.ts'
import {
  type AnalysisLookup,
  assembleImage,
  findKernel,
  kernelCandidates,
  planProvenance,
} from '../../unikernel/assembly.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import {
  ANALYZER_VERSION,
  type AnalyzedRole,
  analyzeBlob,
  type BlobSource,
  type LayerAnalysis,
} from '../../unikernel/layer-analysis.ts'
import {
  assertBuildHash,
  findDeclaredKernelHash,
  validateChild,
  validateImage,
} from '../../unikernel/validation.ts'
import { withStoreErrors } from '../store-errors.ts'
import { hexHashOfStream } from '../uploads/hash-stream.ts'
import { listPackages } from './package-lists.ts'
import { analysisOf } from './stored-analyses.ts'

/** What was read for a manifest. */
export type ImageAnalysis = {
  /** Undefined for what is no unikernel. Facts that were known before may lack in it. */
  readonly image: UnikernelImage | undefined
  /** The rows of its layers. */
  readonly layers: readonly { readonly blobId: number; readonly role: string }[]
}

// Of these only whether they were understood counts for a push: they have some 100 KB each.
const LARGE_ROLES = ['opam-switch', 'system-packages']
const NOTHING: ImageAnalysis = { image: undefined, layers: [] }

/** Understands what is pushed: reads what no earlier push brought, and judges it. */
export class ImageAnalyzer {
  readonly #db: Database
  readonly #store: BlobStore

  constructor(db: Database, store: BlobStore) {
    this.#db = db
    this.#store = store
  }

  /**
   * Reads the parts of a manifest that the repository has; of one that it lacks, nothing is known
   * here. Throws MANIFEST_INVALID for a contradiction, and UNAVAILABLE.
   */
  async analyze(repository: Repository, manifest: Manifest): Promise<ImageAnalysis> {
    if (manifest.children.some(({ platform }) => platform?.os === 'solo5')) {
      await this.#judgeChildren(repository, manifest)
    }
    const candidates = kernelCandidates(manifest)
    if (candidates.length === 0) {
      validateImage(manifest, undefined, () => undefined)
      return NOTHING
    }
    return whileThere(() => this.#readLayers(repository, manifest, candidates))
  }

  async #readLayers(
    repository: Repository,
    manifest: Manifest,
    candidates: readonly Layer[],
  ): Promise<ImageAnalysis> {
    const { config, layers } = manifest
    const digests = [...new Set([...layers, ...(config ? [config] : [])].map((one) => one.digest))]
    const rows = await listAnalyzedBlobs(
      this.#db,
      repository,
      digests,
      ANALYZER_VERSION,
      LARGE_ROLES,
    )
    const parts = new Parts(rows, this.#store)
    const complete = candidates.every(({ digest }) => parts.has(digest))
    // Of each some KB, so all at once; but the same bytes once, where several layers have them.
    const distinct = new Map(candidates.map((part) => [part.digest, part])).values()
    await Promise.all([...distinct].map((part) => parts.read([{ part, role: 'kernel' }])))
    const kernel = findKernel(manifest, parts.findFacts)
    if (kernel !== undefined) await parts.read(planProvenance(manifest, kernel))
    const image = assembleImage(manifest, parts.findFacts)
    // The push is refused anyway, for the blob that lacks, and that is what its sender must hear.
    if (image !== undefined || complete) validateImage(manifest, image, parts.findFacts)
    if (image === undefined) return NOTHING
    await judgeHashes(image, parts)
    await parts.keep(this.#db)
    return { image, layers: parts.rolesOf(image) }
  }

  /**
   * True when a blob of the repository is a Solo5 kernel. Throws MANIFEST_INVALID for one that is
   * malformed, and UNAVAILABLE.
   */
  isKernel(repository: Repository, layer: Layer): Promise<boolean> {
    return whileThere(() => this.#isKernel(repository, layer))
  }

  async #isKernel(repository: Repository, layer: Layer): Promise<boolean> {
    const rows = await listAnalyzedBlobs(
      this.#db,
      repository,
      [layer.digest],
      ANALYZER_VERSION,
      LARGE_ROLES,
    )
    const parts = new Parts(rows, this.#store)
    await parts.read([{ part: layer, role: 'kernel' }])
    const facts = parts.findFacts(layer.digest, 'kernel')
    if (facts?.problem !== undefined)
      throw invalidManifest(layer.digest, `is no kernel: ${facts.problem}`)
    await parts.keep(this.#db)
    return facts?.value !== undefined
  }

  async #judgeChildren(repository: Repository, { children }: Manifest): Promise<void> {
    const digests = children.map(({ digest }) => digest)
    const rows = new Map(
      (await listChildren(this.#db, repository, digests)).map((row) => [row.digest, row]),
    )
    for (const child of children) {
      const row = rows.get(child.digest)
      // One that lacks is told of when the index is put.
      if (row === undefined || !row.read) continue
      const { target, architecture } = row
      const facts =
        target === null ? undefined : { target, architecture: architecture ?? undefined }
      validateChild(child, facts)
    }
  }
}

// A blob that nobody names yet may be swept between the look and the read, and pushed anew.
const LOOKS_MAX = 5

/** Looks again when bytes were gone that had been there a moment before. */
async function whileThere<T>(read: () => Promise<T>): Promise<T> {
  for (let looks = 1; ; looks += 1) {
    try {
      return await read()
    } catch (error) {
      // Bytes that are still missing then are our fault.
      if (!(error instanceof BlobMissingError) || looks === LOOKS_MAX) throw error
    }
  }
}

/** Notes in the transaction of a push what was read for it. */
export async function recordImage(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
  { image, layers }: ImageAnalysis,
): Promise<void> {
  if (image === undefined) return
  const { kernel, inputId } = image
  const { abi, architecture, manifest } = kernel.solo5
  await putImage(tx, {
    repositoryId,
    digest,
    kernelDigest: kernel.digest,
    // Postgres takes no NUL in text.
    kernelTitle: kernel.title?.replaceAll('\0', ''),
    target: abi.target,
    abiVersion: abi.version,
    architecture,
    devices: manifest.devices.map(({ kind, name }) => `${kind}:${name}`),
    inputId,
    layers,
  })
}

/** Build hashes in another algorithm than the digest's cost a reading of the whole kernel. */
async function judgeHashes(image: UnikernelImage, parts: Parts): Promise<void> {
  const hash = findDeclaredKernelHash(image)
  if (hash === undefined) return
  const { algorithm, said, known } = hash
  assertBuildHash(algorithm, said, known ?? (await parts.hashOf(image.kernel, algorithm)))
}

/** The blobs of one image, what is known of them, and what was learned now. */
class Parts {
  readonly #rows: ReadonlyMap<Digest, AnalyzedBlobRow>
  readonly #store: BlobStore
  readonly #facts = new Map<string, LayerAnalysis>()
  readonly #new: NewAnalysis[] = []

  constructor(rows: readonly AnalyzedBlobRow[], store: BlobStore) {
    this.#rows = new Map(rows.map((row) => [row.digest, row]))
    this.#store = store
    for (const { digest, facts } of rows) {
      for (const row of facts) this.#facts.set(`${row.role} ${digest}`, analysisOf(row))
    }
  }

  // What was put under a role was read as that role.
  readonly findFacts: AnalysisLookup = <R extends AnalyzedRole>(digest: Digest, role: R) =>
    this.#facts.get(`${role} ${digest}`) as LayerAnalysis<R> | undefined

  has(digest: Digest): boolean {
    return this.#rows.has(digest)
  }

  /** Reads what is not known yet, one after the other: so only one list is in memory at a time. */
  async read(
    planned: readonly { readonly part: Descriptor; readonly role: AnalyzedRole }[],
  ): Promise<void> {
    for (const { part, role } of planned) {
      const row = this.#rows.get(part.digest)
      if (row === undefined || this.#facts.has(`${role} ${part.digest}`)) continue
      const facts = await analyzeBlob(role, this.#sourceOf(row))
      this.#facts.set(`${role} ${part.digest}`, facts)
      this.#new.push({
        blobId: row.blobId,
        role,
        sha256: facts.sha256 ?? null,
        // Postgres takes no NUL in text; JSON has it escaped.
        problem: facts.problem?.replaceAll('\0', '\ufffd') ?? null,
        facts: facts.value === undefined ? null : JSON.stringify(facts.value),
        packages: listPackages(role, facts),
      })
    }
  }

  /** In hexadecimal. Reads everything, once for all images that have these bytes. */
  async hashOf({ digest }: { digest: Digest }, algorithm: string): Promise<string> {
    const role = `hash-${algorithm}`
    const row = this.#rows.get(digest)
    if (row === undefined) throw new Error(`${digest} was read and is not there`)
    const known = row.facts.find((one) => one.role === role)?.facts
    if (known != null) return JSON.parse(known)
    const range = { start: 0, end: row.size - 1 }
    const bytes = withStoreErrors(this.#store.read(row.storageKey, range))
    const hash = await hexHashOfStream(bytes, algorithm)
    const { blobId } = row
    const facts = JSON.stringify(hash)
    this.#new.push({ blobId, role, sha256: null, problem: null, facts, packages: [] })
    return hash
  }

  async keep(db: Database): Promise<void> {
    if (this.#new.length > 0) await putAnalyses(db, this.#new, ANALYZER_VERSION)
  }

  rolesOf({ layers }: UnikernelImage): { blobId: number; role: string }[] {
    return layers.flatMap(({ digest, role }) => {
      const row = this.#rows.get(digest)
      return row === undefined || role === undefined ? [] : [{ blobId: row.blobId, role }]
    })
  }

  #sourceOf({ digest, size, storageKey }: AnalyzedBlobRow): BlobSource {
    return {
      digest,
      size,
      read: async (start, end) => {
        const chunks: Uint8Array[] = []
        // A chunk's memory is used again when the next one is asked for.
        for await (const chunk of withStoreErrors(this.#store.read(storageKey, { start, end }))) {
          chunks.push(Buffer.from(chunk))
        }
        const [only] = chunks
        return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks)
      },
    }
  }
}
