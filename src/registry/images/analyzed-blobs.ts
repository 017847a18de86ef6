import type { Database } from '../../db/database.ts'
import {
  type AnalyzedBlobRow,
  type NewAnalysis,
  putAnalyses,
} from '../../db/images/layer-analyses.ts'
import { type Deriver, recordOf } from '../../derivation/deriver.ts'
import type { Digest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import { AnalysisCache, type BlobAnalysis } from '../../unikernel/analysis-cache.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import {
  ANALYZER_VERSION,
  type AnalyzeBytes,
  type LayerAnalysis,
} from '../../unikernel/layer-analysis.ts'
import { isPackageList } from '../../unikernel/package-lists.ts'
import type { OpenBlob } from '../../unikernel/read-image.ts'
import { analysesOf } from '../../unikernel/stored-analyses.ts'
import { withStoreErrors } from '../store-errors.ts'
import { hexHashOfStream } from '../uploads/hash-stream.ts'

/** The blobs of one image in the store, with their stored analyses and the new ones. */
export class AnalyzedBlobs {
  readonly cache: AnalysisCache
  readonly rows: readonly AnalyzedBlobRow[]
  readonly #rows: ReadonlyMap<Digest, AnalyzedBlobRow>
  readonly #store: BlobStore
  readonly #deriver: Deriver
  readonly #newHashes: NewAnalysis[] = []
  /** The fields for the database of analyses by `analyze`. */
  readonly #client: string
  readonly #fields = new Map<LayerAnalysis, string>()

  /** `client`: the one for whom the blobs are analyzed. */
  constructor(
    rows: readonly AnalyzedBlobRow[],
    store: BlobStore,
    deriver: Deriver,
    client: string,
  ) {
    this.rows = rows
    this.#deriver = deriver
    this.#client = client
    this.#rows = new Map(rows.map((row) => [row.digest, row]))
    this.#store = store
    this.cache = new AnalysisCache(
      rows.flatMap(({ digest, analyses }) =>
        analysesOf(analyses.map((one) => ({ digest, ...one }))),
      ),
    )
  }

  has(digest: Digest): boolean {
    return this.#rows.has(digest)
  }

  readonly open: OpenBlob = ({ digest }) => {
    const row = this.#rows.get(digest)
    if (row === undefined) return undefined
    const { size, storageKey } = row
    return {
      digest,
      size,
      read: async (start, end) => {
        assertNotLost(row)
        const chunks: Uint8Array[] = []
        // The store reuses a chunk's memory for the next chunk.
        for await (const chunk of withStoreErrors(this.#store.read(storageKey, { start, end }))) {
          chunks.push(Buffer.from(chunk))
        }
        const [only] = chunks
        return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks)
      },
    }
  }

  /** Analyzes a blob that is read whole. Large values are left out of the result, and stored. */
  readonly analyze: AnalyzeBytes = async (role, digest, bytes) => {
    const { analysis, fields } = await this.#deriver.analyze(this.#client, role, digest, bytes)
    this.#fields.set(analysis, fields)
    return analysis
  }

  /** Hashes a whole blob, once for all images that have it. In hexadecimal. */
  async hash(digest: Digest, algorithm: string): Promise<string> {
    const role = `hash-${algorithm}`
    const row = this.#rows.get(digest)
    if (row === undefined) throw new Error(`${digest} was analyzed, but its row is missing`)
    const stored = row.analyses.find((one) => one.role === role)?.facts
    if (stored != null) return JSON.parse(stored)
    assertNotLost(row)
    const range = { start: 0, end: row.size - 1 }
    const bytes = withStoreErrors(this.#store.read(row.storageKey, range))
    const hash = await hexHashOfStream(bytes, algorithm)
    const fields = JSON.stringify({ role, facts: JSON.stringify(hash) })
    this.#newHashes.push({ blobId: row.blobId, fields, hasPackages: false })
    return hash
  }

  /** Stores the new analyses and hashes. */
  async save(db: Database): Promise<void> {
    const added = [...this.cache.added.flatMap((one) => this.#rowOf(one)), ...this.#newHashes]
    if (added.length > 0) await putAnalyses(db, added, ANALYZER_VERSION)
  }

  /** The blob rows of an image's layers. */
  layersOf({ layers }: UnikernelImage): { blobId: number; role: string }[] {
    return layers.flatMap(({ digest, role }) => {
      const row = this.#rows.get(digest)
      return row === undefined || role === undefined ? [] : [{ blobId: row.blobId, role }]
    })
  }

  #rowOf({ digest, role, analysis }: BlobAnalysis): NewAnalysis[] {
    const row = this.#rows.get(digest)
    if (row === undefined) return []
    const fields = this.#fields.get(analysis) ?? recordOf(role, analysis).fields
    return [{ blobId: row.blobId, fields, hasPackages: isPackageList(role) }]
  }
}

/** Throws MANIFEST_BLOB_UNKNOWN for a blob whose bytes the store lost: wrong bytes are not analyzed either. */
function assertNotLost({ digest, lost }: AnalyzedBlobRow): void {
  if (!lost) return
  const message = `the registry lost the bytes of the blob ${digest}: push it before the manifest`
  throw new RegistryError('MANIFEST_BLOB_UNKNOWN', { blob: [digest] }, { message })
}
