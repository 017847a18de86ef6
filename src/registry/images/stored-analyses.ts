import type { AnalysisRow } from '../../db/images/layer-analyses.ts'
import type { Digest } from '../../oci/digest.ts'
import type { AnalysisLookup } from '../../unikernel/assembly.ts'
import type { AnalyzedRole, LayerAnalysis } from '../../unikernel/layer-analysis.ts'

/** What a row says; a value that was not asked for lacks. */
export function analysisOf({ sha256, problem, facts }: AnalysisRow): LayerAnalysis {
  return {
    sha256: sha256 ?? undefined,
    problem: problem ?? undefined,
    value: facts === null ? undefined : JSON.parse(facts),
  }
}

/** Finds facts among rows; each is parsed when it is asked for. */
export function analysisLookup(
  rows: readonly (AnalysisRow & { readonly digest: Digest })[],
): AnalysisLookup {
  const byKey = new Map(rows.map((row) => [`${row.role} ${row.digest}`, row]))
  const known = new Map<string, LayerAnalysis>()
  return <R extends AnalyzedRole>(digest: Digest, role: R) => {
    const key = `${role} ${digest}`
    const row = byKey.get(key)
    if (row === undefined) return undefined
    const facts = known.get(key) ?? analysisOf(row)
    known.set(key, facts)
    // What was put under a role was read as that role.
    return facts as LayerAnalysis<R>
  }
}
