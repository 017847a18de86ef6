import type { Glob } from '../../oci/glob.ts'
import { type Condition, given } from '../conditions.ts'

/** Filters images by their tags. Undefined matches any. */
export type TagFilter = {
  /** True: only images with a tag. */
  readonly tagged: true | undefined
  /** Only images with a tag that matches. */
  readonly tag: Glob | undefined
}

/** Filters the hits of a search. Undefined matches any. */
export type HitFilter = TagFilter & {
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

// A range of one digest, as for the tags of a manifest. The tag of an index counts for its images.
const MATCHING_TAG = `cross join lateral (
                 select t.name
                   from tags t
                  where t.repository_id = m.repository_id
                    and t.digest >= named.digest
                    and t.digest <= named.digest
                    and t.name ~ $
                  order by t.digest, t.name
                  limit 1
               ) t` as const

/** Returns the conditions for manifest `m` of repository `r`. `offset 0` makes it a probe for each image. */
export function hitConditions(filter: HitFilter): Condition[] {
  return [
    ...given(
      `and exists (
              select 1
                from ${NAMED_DIGESTS}
               ${MATCHING_TAG}
              offset 0)`,
      tagExpression(filter),
    ),
    ...repositoryCondition(filter),
  ]
}

/** Returns the same conditions for image `i` of repository `r`: a join of all manifests would cost more with each that is stored. */
export function imageHitConditions(filter: HitFilter): Condition[] {
  return [
    ...given(
      `and exists (
              select 1
                from manifests m
               cross join lateral ${NAMED_DIGESTS}
               ${MATCHING_TAG}
               where m.id = i.manifest_id
              offset 0)`,
      tagExpression(filter),
    ),
    ...repositoryCondition(filter),
  ]
}

function tagExpression({ tagged, tag }: HitFilter): string | undefined {
  return tag === undefined ? tagged && '' : expressionOf(tag)
}

function repositoryCondition({ repository }: HitFilter): Condition[] {
  return given('and r.name ~ $', repository === undefined ? undefined : expressionOf(repository))
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
