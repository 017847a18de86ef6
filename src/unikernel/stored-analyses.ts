import type { Digest } from '../oci/digest.ts'
import type { BlobAnalysis } from './analysis-cache.ts'
import { isAnalyzedRole } from './layer-analysis.ts'

/** The stored analysis of a blob as `role`. */
export type StoredAnalysis = {
  readonly digest: Digest
  readonly role: string
  /** Hash of the bytes, in hexadecimal. */
  readonly sha256: string | null
  readonly problem: string | null
  /** JSON. Null for a malformed blob, for a layer that is not a kernel, and where the query leaves it out. */
  readonly facts: string | null
  /** JSON: OpamSummary. Null for other roles, and where the query leaves it out. */
  readonly summary?: string | null
}

/**
 * Makes analyses of rows. The value is missing where the query left it out, and for what is not a
 * kernel. Rows of other roles, such as hashes, are skipped.
 */
export function analysesOf(rows: readonly StoredAnalysis[]): BlobAnalysis[] {
  return rows.flatMap(({ digest, role, sha256, problem, facts, summary }): BlobAnalysis[] => {
    if (!isAnalyzedRole(role)) return []
    const value = facts === null ? undefined : JSON.parse(facts)
    const analysis = {
      sha256: sha256 ?? undefined,
      problem: problem ?? undefined,
      value,
      summary: summary == null ? undefined : JSON.parse(summary),
    }
    return [{ digest, role, analysis }]
  })
}
