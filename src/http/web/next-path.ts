import type { RouteContext } from '../route.ts'

/**
 * Returns the path of the next page of a list: after the item that `last` names, with the same filters. A page ignores
 * parameters that it does not know, and repeats none of them.
 */
export function nextPath(
  ctx: RouteContext,
  last: string | undefined,
  filters: readonly string[] = [],
): string | undefined {
  if (last === undefined) return undefined
  const given = new URLSearchParams(ctx.querystring)
  const query = new URLSearchParams()
  for (const name of filters) {
    for (const value of given.getAll(name)) query.append(name, value)
  }
  query.set('last', last)
  return `${ctx.path}?${query}`
}
