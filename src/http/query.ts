import { invalidQuery, type RegistryError } from '../oci/errors.ts'
import { visibleJson } from '../oci/hidden-characters.ts'

/** The query parameters that a route takes, by name: `once`, or `many` times. */
export type QueryParameters = Readonly<Record<string, 'once' | 'many'>>

/** The parameters of a list in pages. */
export const PAGE = { n: 'once', last: 'once' } as const satisfies QueryParameters

const SHOWN_CHARACTERS_MAX = 40
const SECRET = /rk[a-z]_[\w-]+/gi
/** A name with more edits is another word. */
const EDITS_MAX = 2

/**
 * Requires that a query has only these parameters. A parameter that was ignored would look as if it
 * had an effect: `?tags=live` would push an image without a tag. Throws QUERY_INVALID, which names the right ones.
 */
export function assertQuery(querystring: string, parameters: QueryParameters = {}): void {
  if (querystring === '') return
  const given = new Set<string>()
  for (const name of new URLSearchParams(querystring).keys()) {
    if (!Object.hasOwn(parameters, name)) throw unknownParameter(name, Object.keys(parameters))
    if (parameters[name] === 'once' && given.has(name)) {
      throw invalidQuery(`${name} is given twice`, { parameter: name })
    }
    given.add(name)
  }
}

function unknownParameter(name: string, accepted: readonly string[]): RegistryError {
  const shown = visibleJson(name.replace(SECRET, '…').slice(0, SHOWN_CHARACTERS_MAX))
  const near = nearestOf(name, accepted)
  const hint = near === undefined ? '' : `, did you mean ${near}?`
  const rule =
    accepted.length === 0 ? 'this takes no parameters' : `this accepts ${accepted.join(', ')}`
  return invalidQuery(`unknown parameter ${shown}${hint === '' ? ';' : hint} ${rule}`, { accepted })
}

/** Returns the name that is nearest to a word, undefined when all are other words. */
function nearestOf(word: string, names: readonly string[]): string | undefined {
  if (word.length > SHOWN_CHARACTERS_MAX) return undefined
  const lower = word.toLowerCase()
  const [near] = names
    .map((name) => ({ name, edits: editsBetween(lower, name.toLowerCase()) }))
    .filter(({ name, edits }) => edits <= EDITS_MAX && edits < name.length)
    .toSorted((a, b) => a.edits - b.edits)
  return near?.name
}

/** Counts the letters to add, remove or replace (Levenshtein's distance). */
function editsBetween(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let index = 0; index < from.length; index += 1) {
    const next = [index + 1]
    for (let at = 0; at < to.length; at += 1) {
      const replaced = (row[at] ?? 0) + (from[index] === to[at] ? 0 : 1)
      next.push(Math.min(replaced, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1))
    }
    row = next
  }
  return row.at(-1) ?? 0
}
