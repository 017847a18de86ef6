import { filterInSlices } from '../async/filter-in-slices.ts'
import { badRequest } from '../oci/errors.ts'
import { type Glob, globOf, matchesAnyGlob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'
import type { Queryable } from './database.ts'

/**
 * A pattern as a range of the index of names, for `json_to_recordset`: names from `low`, below `high`, that end
 * with `suffix`. `deep`: the characters between may have a slash.
 */
export type NameRange = {
  readonly low: string
  readonly high: string
  readonly suffix: string
  readonly deep: boolean
}

// Names and tags consist of characters between these two.
const BEFORE_NAMES = ' '
const AFTER_NAMES = '~'

/** Returns the range of a pattern: exact with at most one star, otherwise with all its names and more. */
export function nameRange(glob: Glob): NameRange {
  const first = glob.indexOf('*')
  if (first === -1) return { low: glob, high: `${glob}${BEFORE_NAMES}`, suffix: '', deep: true }
  const low = glob.slice(0, first)
  const suffix = glob.slice(glob.lastIndexOf('*') + 1)
  const stars = glob.slice(first, glob.length - suffix.length)
  return { low, high: `${low}${AFTER_NAMES}`, suffix, deep: stars !== '*' }
}

/** Returns the ranges of patterns as a parameter of a statement. */
export function nameRanges(globs: readonly Glob[]): string {
  return JSON.stringify(globs.map(nameRange))
}

/** True when the range of the pattern has its names and no others. */
export function isExact(glob: Glob): boolean {
  return /^[^*]*\**[^*]*$/.test(glob)
}

/** Columns of `json_to_recordset` for ranges. */
export const RANGE_COLUMNS = 'low text, high text, suffix text, deep boolean'

/** True for the names from which a range selects, for an index on names. */
export const REPOSITORY_IN_BOUNDS = `r.name >= g.low
              and r.name < g.high`

/**
 * True when a range selects the name of repository `r`, which is in its bounds. Linear in the length of the name.
 * Postgres expects few names that fulfil four conditions, and would sort the whole range; of a `case`, it expects half.
 */
export const REPOSITORY_SELECTED = `case when right(r.name, length(g.suffix)) = g.suffix
              and length(r.name) >= length(g.low) + length(g.suffix)
              and (g.deep or strpos(substr(r.name, length(g.low) + 1,
                    greatest(0, length(r.name) - length(g.low) - length(g.suffix))), '/') = 0)
              then true else false end`

/** True when the name of repository `r` is in range `g`. */
export const REPOSITORY_IN_RANGE = `${REPOSITORY_IN_BOUNDS}
              and ${REPOSITORY_SELECTED}`

/** The repository `r` of row `c`, when it is public or one of the names of `visible`, whose columns are RANGE_COLUMNS. */
export const VISIBLE_REPOSITORY = `lateral (
              select r.name
                from repositories r
               where r.id = c.repository_id
                 and r.deleted_at is null
                 and (r.visibility = 'public' or exists (
                       select 1
                         from visible g
                        where ${REPOSITORY_IN_RANGE}))
              offset 0
            ) r`

/** True when range `g` has all names that pattern `r.name` matches: between its ends, `*` takes neither `/` nor `**`. */
export const PATTERN_IN_RANGE = `${REPOSITORY_IN_RANGE}
              and (g.deep or strpos(substr(r.name, length(g.low) + 1,
                    greatest(0, length(r.name) - length(g.low) - length(g.suffix))), '**') = 0)`

/** The same for range `v`, a range of what a caller may see, in a statement that has patterns, too. */
export const REPOSITORY_IN_VISIBLE_BOUNDS = REPOSITORY_IN_BOUNDS.replaceAll('g.', 'v.')
export const REPOSITORY_VISIBLY_SELECTED = REPOSITORY_SELECTED.replaceAll('g.', 'v.')

/** True when the name of tag `t` is in range `g`. A tag has no slash. */
export const TAG_IN_RANGE = `t.name >= g.low
              and t.name < g.high
              and right(t.name, length(g.suffix)) = g.suffix
              and length(t.name) >= length(g.low) + length(g.suffix)`

/** Private repositories that a caller may see, as ranges without other names. Made by `resolveVisible`. */
export type VisibleNames = string & { readonly __type: 'VisibleNames' }

/** Private repositories that patterns with several stars may match together. */
const RESOLVED_MAX = 10_000
const NAMES_AT_ONCE = 5_000
/** Names that patterns with several stars are compared with, also of repositories that they do not match. */
const COMPARED_MAX = 1_000_000

/**
 * Returns the ranges of private repositories that match the patterns. Patterns with one star are ranges as they
 * are. Patterns with several are compared with the names in their range, in turns with other requests. Throws
 * REQUEST_INVALID when they match more than RESOLVED_MAX names: repositories of others do not count.
 */
export async function resolveVisible(db: Queryable, globs: readonly Glob[]): Promise<VisibleNames> {
  const ranges = globs.filter(isExact)
  const others = globs.filter((glob) => !isExact(glob))
  const found = others.length === 0 ? [] : await listMatchingNames(db, others)
  return nameRanges([...ranges, ...found.map(globOf)]) as VisibleNames
}

/** Lists private repositories that match patterns with several stars. */
async function listMatchingNames(db: Queryable, globs: readonly Glob[]): Promise<Repository[]> {
  const found: Repository[] = []
  let after = ''
  for (let compared = 0; compared < COMPARED_MAX; compared += NAMES_AT_ONCE) {
    const { rows } = await db.query<{ name: Repository }>(
      `select distinct r.name
         from json_to_recordset($1::json) as g (${RANGE_COLUMNS})
        cross join lateral (
          select r.name
            from (
              select r.name
                from repositories r
               where r.visibility = 'private'
                 and r.name > $2
                 and ${REPOSITORY_IN_BOUNDS}
               order by r.name
              offset 0
            ) r
           where ${REPOSITORY_SELECTED}
           limit ${NAMES_AT_ONCE}
        ) r
        order by r.name
        limit ${NAMES_AT_ONCE}`,
      [nameRanges(globs), after],
    )
    const matching = await filterInSlices(rows, ({ name }) => matchesAnyGlob(globs, name))
    for (const { name } of matching) found.push(name)
    if (found.length > RESOLVED_MAX) break
    if (rows.length < NAMES_AT_ONCE) return found
    after = rows.at(-1)?.name ?? after
  }
  throw badRequest(
    `the patterns ${globs.join(', ')} match more than ${RESOLVED_MAX} repositories: write patterns with one star`,
  )
}
