import type { Digest } from '../oci/digest.ts'
import type { AnalyzedRole, LayerAnalysis } from './layer-analysis.ts'

/** Finds the analysis of a blob; undefined when there is none. */
export type AnalysisLookup = <R extends AnalyzedRole>(
  digest: Digest,
  role: R,
) => LayerAnalysis<R> | undefined

/** The analysis of one blob, and the role that it was analyzed as. */
export type BlobAnalysis = {
  readonly digest: Digest
  readonly role: AnalyzedRole
  readonly analysis: LayerAnalysis
}

/** The analyses of one image's blobs: stored ones, and those added since. */
export class AnalysisCache {
  readonly #analyses = new Map<string, LayerAnalysis>()
  readonly #added: BlobAnalysis[] = []

  constructor(stored: readonly BlobAnalysis[] = []) {
    for (const one of stored) this.#analyses.set(keyOf(one), one.analysis)
  }

  /** In the order in which they were added. */
  get added(): readonly BlobAnalysis[] {
    return this.#added
  }

  add(added: BlobAnalysis): void {
    this.#analyses.set(keyOf(added), added.analysis)
    this.#added.push(added)
  }

  readonly find: AnalysisLookup = <R extends AnalyzedRole>(digest: Digest, role: R) =>
    // A blob's analysis under a role was made for that role.
    this.#analyses.get(keyOf({ digest, role })) as LayerAnalysis<R> | undefined
}

function keyOf({ digest, role }: Pick<BlobAnalysis, 'digest' | 'role'>): string {
  return `${role} ${digest}`
}
