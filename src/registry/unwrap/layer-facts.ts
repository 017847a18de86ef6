import type { Database, Queryable } from '../../db/database.ts'
import {
  type AnalyzedBlobRow,
  type NewLayerFacts,
  putLayerFacts,
} from '../../db/images/layer-analyses.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import {
  isNamedKernel,
  type KernelFile,
  LAYER_FILES_VERSION,
  type LayerFiles,
  type LayerPaths,
} from '../../unikernel/container/layer-files.ts'
import { KERNELS, loadWholeBlobRows, PATHS } from '../images/blob-rows.ts'

const NO_PATHS: LayerPaths = {
  ...{ files: [], directories: [], removed: [], opaque: [], links: [] },
  ...{ symlinks: [], incomplete: [] },
}

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

  /** By blob and role. */
  readonly #unsaved = new Map<string, NewLayerFacts>()

  /** `rows`: the rows of `loadBlobRows`. */
  constructor(rows: readonly AnalyzedBlobRow[]) {
    this.#rows = new Map(rows.map((row) => [row.digest, row]))
    for (const row of rows) {
      const facts = factsOf(row)
      if (facts !== undefined) this.#facts.set(row.digest, facts)
    }
  }

  row(digest: Digest): AnalyzedBlobRow | undefined {
    return this.#rows.get(digest)
  }

  facts(digest: Digest): LayerFacts | undefined {
    return this.#facts.get(digest)
  }

  /** Loads the paths of layers that an earlier push read. Few images need them. */
  async loadPaths(db: Queryable, repository: Repository): Promise<void> {
    const missing = [...this.#facts.keys()].filter((digest) => !this.#paths.has(digest))
    if (missing.length === 0) return
    const rows = await loadWholeBlobRows(db, repository, missing)
    for (const { digest, analyses } of rows) {
      const facts = analyses.find(({ role }) => role === PATHS)?.facts
      if (facts != null) this.#paths.set(digest, JSON.parse(facts))
    }
  }

  /** True when this push has read the layer, and it has a symbolic link with the name of a kernel. */
  hasKernelLink(digest: Digest): boolean {
    return this.#paths.get(digest)?.symlinks.some(([path]) => isNamedKernel(path)) ?? false
  }

  /** The files of a layer after `loadPaths`. Undefined when it was not read. */
  files(digest: Digest): LayerFiles | undefined {
    const facts = this.#facts.get(digest)
    if (facts === undefined || facts.problem !== undefined) return undefined
    return { kernels: facts.kernels, paths: this.#paths.get(digest) ?? NO_PATHS }
  }

  /** Adds the files of a layer that was read. */
  add(digest: Digest, files: LayerFiles): void {
    this.#paths.set(digest, files.paths)
    this.#addKernels(digest, files.kernels)
    this.#add(digest, { role: PATHS, problem: undefined, facts: JSON.stringify(files.paths) })
  }

  /** Adds the reason why a layer cannot be read. */
  addProblem(digest: Digest, text: string): void {
    // Postgres takes no NUL in text.
    const problem = text.replaceAll('\0', '\ufffd')
    this.#facts.set(digest, { problem })
    this.#add(digest, { role: KERNELS, problem, facts: undefined })
  }

  /** Adds the digest of a kernel, so that nobody has to read the file for it again. */
  addDigest(layer: Digest, kernel: KernelFile, digest: Digest): void {
    const facts = this.#facts.get(layer)
    if (facts === undefined || facts.problem !== undefined) return
    const kernels = facts.kernels.map((one) =>
      one.offset === kernel.offset ? { ...one, digest } : one,
    )
    this.#addKernels(layer, kernels)
  }

  #addKernels(digest: Digest, kernels: readonly KernelFile[]): void {
    this.#facts.set(digest, { kernels })
    this.#add(digest, { role: KERNELS, problem: undefined, facts: JSON.stringify(kernels) })
  }

  #add(digest: Digest, facts: Pick<NewLayerFacts, 'role' | 'problem' | 'facts'>): void {
    const row = this.#rows.get(digest)
    if (row === undefined) return
    const { blobId } = row
    this.#unsaved.set(`${blobId} ${facts.role}`, { blobId, ...facts, version: LAYER_FILES_VERSION })
  }

  /** The facts that were added since they were saved. */
  get unsaved(): readonly NewLayerFacts[] {
    return [...this.#unsaved.values()]
  }

  /** Stores the facts that were added. */
  async save(db: Database): Promise<void> {
    if (this.#unsaved.size === 0) return
    await putLayerFacts(db, this.unsaved)
    this.#unsaved.clear()
  }
}

function factsOf({ analyses }: AnalyzedBlobRow): LayerFacts | undefined {
  const stored = analyses.find(({ role }) => role === KERNELS)
  if (stored === undefined) return undefined
  if (stored.problem !== null) return { problem: stored.problem }
  return { kernels: stored.facts === null ? [] : JSON.parse(stored.facts) }
}
