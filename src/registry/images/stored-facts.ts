import type { FactsRow } from '../../db/images/layer-facts.ts'
import type { Digest } from '../../oci/digest.ts'
import type { FindFacts } from '../../unikernel/assembly.ts'
import type { Facts, ReadRole } from '../../unikernel/reading.ts'

/** What a row says; a value that was not asked for lacks. */
export function factsOf({ sha256, problem, facts }: FactsRow): Facts {
  return {
    sha256: sha256 ?? undefined,
    problem: problem ?? undefined,
    value: facts === null ? undefined : JSON.parse(facts),
  }
}

/** Finds facts among rows; each is parsed when it is asked for. */
export function factsFinder(rows: readonly (FactsRow & { readonly digest: Digest })[]): FindFacts {
  const byKey = new Map(rows.map((row) => [`${row.role} ${row.digest}`, row]))
  const known = new Map<string, Facts>()
  return <R extends ReadRole>(digest: Digest, role: R) => {
    const key = `${role} ${digest}`
    const row = byKey.get(key)
    if (row === undefined) return undefined
    const facts = known.get(key) ?? factsOf(row)
    known.set(key, facts)
    // What was put under a role was read as that role.
    return facts as Facts<R>
  }
}
