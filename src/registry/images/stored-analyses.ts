import type { AnalysisRow } from '../../db/images/layer-analyses.ts'
import type { Digest } from '../../oci/digest.ts'
import type { BlobAnalysis } from '../../unikernel/analysis-cache.ts'
import { isAnalyzedRole } from '../../unikernel/layer-analysis.ts'

/**
 * Makes analyses of rows. The value is missing where the query left it out, and for what is not a
 * kernel. Rows of other roles, such as hashes, are skipped.
 */
export function analysesOf(
  rows: readonly (AnalysisRow & { readonly digest: Digest })[],
): BlobAnalysis[] {
  return rows.flatMap(({ digest, role, sha256, problem, facts }): BlobAnalysis[] => {
    if (!isAnalyzedRole(role)) return []
    const value = facts === null ? undefined : JSON.parse(facts)
    const analysis = { sha256: sha256 ?? undefined, problem: problem ?? undefined, value }
    return [{ digest, role, analysis }]
  })
}
