import type { Glob } from '../../oci/glob.ts'
import { type Condition, given } from '../conditions.ts'

/** Filters the hits of a search. Undefined matches any. */
export type HitFilter = {
  /** True: only images with a tag. */
  readonly tagged: true | undefined
  /** Only images with a tag that matches. */
  readonly tag: Glob | undefined
  /** Only images of repositories that match. */
  readonly repository: Glob | undefined
}

/** Hits that one page of a filtered search reads, however few of them match. */
export const HITS_SCANNED_MAX = 2_000

/** The digest whose tags are those of manifest `m`: an unwrapped image has the tags of its container image. */
export const TAGGED_DIGEST = 'case when m.unwrapped_from is null then m.digest else m.subject end'

/** The digests whose tags count for manifest `m`: its own, and those of the indexes that contain it. `offset 0` makes it a probe. */
export const NAMED_DIGESTS = `(
                  select ${TAGGED_DIGEST} as digest
                  union all
                  select p.digest
                    from manifest_children mc
                    join manifests p on p.id = mc.manifest_id
                   where mc.digest = ${TAGGED_DIGEST}
                     and mc.repository_id = m.repository_id
                  offset 0
                ) named` as const

/**
 * Returns the conditions for manifest `m` of repository `r`. The tag of an index counts for its images. A range of one digest,
 * as for the tags of a manifest; `offset 0` makes it a probe for each image.
 */
export function hitConditions({ tagged, tag, repository }: HitFilter): Condition[] {
  return [
    ...given(
      `and exists (
              select 1
                from ${NAMED_DIGESTS}
               cross join lateral (
                 select t.name
                   from tags t
                  where t.repository_id = m.repository_id
                    and t.digest >= named.digest
                    and t.digest <= named.digest
                    and t.name ~ $
                  order by t.digest, t.name
                  limit 1
               ) t
              offset 0)`,
      tag === undefined ? tagged && '' : expressionOf(tag),
    ),
    ...given('and r.name ~ $', repository === undefined ? undefined : expressionOf(repository)),
  ]
}

/** Returns the regular expression of a pattern, without anything that backtracks. */
function expressionOf(glob: Glob): string {
  const parts = glob.match(/\*\*+|\*|[^*]+/g) ?? []
  const expressions = parts.map((part) => {
    if (part === '*') return '[^/]*'
    return part.startsWith('*') ? '.*' : part.replace(/[^A-Za-z0-9/_-]/g, '\\$&')
  })
  return `^${expressions.join('')}$`
}
