import type { Database, Queryable } from '../../db/database.ts'
import {
  type AnalyzedBlobRow,
  listAnalyzedBlobs,
  type NewAnalysis,
  putAnalyses,
} from '../../db/images/layer-analyses.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { KernelFile, LayerFiles, LayerPaths } from '../../unikernel/container/layer-files.ts'

/** Increased whenever other files count as kernels. Layers are then read again when an image with them is pushed. */
const LAYER_FILES_VERSION = 1
const KERNELS = 'container-kernels'
const PATHS = 'container-paths'
const NO_PATHS: LayerPaths = { files: [], directories: [], removed: [], opaque: [], links: [] }

/** The facts about the files of a layer: its kernels, or the reason why it was not read. */
export type LayerFacts =
  | { readonly kernels: readonly KernelFile[]; readonly problem?: undefined }
  | { readonly problem: string }

/**
 * The layers of one container image in a repository, with the facts that were stored about them for any
 * repository: a layer is read once. Layers that the repository does not have are left out, so that nobody learns
 * about bytes that he cannot read.
 */
export class StoredLayers {
  readonly #rows: ReadonlyMap<Digest, AnalyzedBlobRow>
  readonly #paths = new Map<Digest, LayerPaths>()
  readonly #facts = new Map<Digest, LayerFacts>()

  private constructor(rows: readonly AnalyzedBlobRow[]) {
    this.#rows = new Map(rows.map((row) => [row.digest, row]))
    for (const row of rows) {
      const facts = factsOf(row)
      if (facts !== undefined) this.#facts.set(row.digest, facts)
    }
  }

  static async load(
    db: Queryable,
    repository: Repository,
    digests: readonly Digest[],
  ): Promise<StoredLayers> {
    return new StoredLayers(
      // Few images need the paths.
      await listAnalyzedBlobs(db, repository, digests, LAYER_FILES_VERSION, [PATHS]),
    )
  }

  row(digest: Digest): AnalyzedBlobRow | undefined {
    return this.#rows.get(digest)
  }

  facts(digest: Digest): LayerFacts | undefined {
    return this.#facts.get(digest)
  }

  /** Loads the paths of layers that an earlier push read. */
  async loadPaths(db: Queryable, repository: Repository): Promise<void> {
    const missing = [...this.#facts.keys()].filter((digest) => !this.#paths.has(digest))
    if (missing.length === 0) return
    const rows = await listAnalyzedBlobs(db, repository, missing, LAYER_FILES_VERSION, [])
    for (const { digest, analyses } of rows) {
      const facts = analyses.find(({ role }) => role === PATHS)?.facts
      if (facts != null) this.#paths.set(digest, JSON.parse(facts))
    }
  }

  /** The files of a layer after `loadPaths`. Undefined when it was not read. */
  files(digest: Digest): LayerFiles | undefined {
    const facts = this.#facts.get(digest)
    if (facts === undefined || facts.problem !== undefined) return undefined
    return { kernels: facts.kernels, paths: this.#paths.get(digest) ?? NO_PATHS }
  }

  /** Stores the files of a layer that was read. */
  async save(db: Database, digest: Digest, files: LayerFiles): Promise<void> {
    this.#facts.set(digest, { kernels: files.kernels })
    this.#paths.set(digest, files.paths)
    await this.#put(db, digest, [
      fieldsOf(KERNELS, { facts: files.kernels }),
      fieldsOf(PATHS, { facts: files.paths }),
    ])
  }

  /** Stores why a layer cannot be read. */
  async saveProblem(db: Database, digest: Digest, problem: string): Promise<void> {
    this.#facts.set(digest, { problem })
    await this.#put(db, digest, [fieldsOf(KERNELS, { problem })])
  }

  /** Stores the digest of a kernel, so that nobody has to read the file for it again. */
  async saveDigest(db: Database, layer: Digest, kernel: KernelFile, digest: Digest): Promise<void> {
    const facts = this.#facts.get(layer)
    if (facts === undefined || facts.problem !== undefined) return
    const kernels = facts.kernels.map((one) =>
      one.offset === kernel.offset ? { ...one, digest } : one,
    )
    this.#facts.set(layer, { kernels })
    await this.#put(db, layer, [fieldsOf(KERNELS, { facts: kernels })])
  }

  async #put(db: Database, digest: Digest, fields: readonly string[]): Promise<void> {
    const row = this.#rows.get(digest)
    if (row === undefined) return
    const added = fields.map((one): NewAnalysis => ({ blobId: row.blobId, fields: one }))
    await putAnalyses(db, added, LAYER_FILES_VERSION)
  }
}

function factsOf({ analyses }: AnalyzedBlobRow): LayerFacts | undefined {
  const stored = analyses.find(({ role }) => role === KERNELS)
  if (stored === undefined) return undefined
  if (stored.problem !== null) return { problem: stored.problem }
  return { kernels: stored.facts === null ? [] : JSON.parse(stored.facts) }
}

function fieldsOf(role: string, { facts, problem }: { facts?: unknown; problem?: string }): string {
  return JSON.stringify({
    role,
    ...(problem === undefined ? {} : { problem: problem.replaceAll('\0', '\ufffd') }),
    ...(facts === undefined ? {} : { facts: JSON.stringify(facts) }),
    packages: [],
  })
}
