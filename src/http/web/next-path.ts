import type { RouteContext } from '../route.ts'

/** Returns the path of the next page of a list: the same query, after the item that `last` names. */
export function nextPath(ctx: RouteContext, last: string | undefined): string | undefined {
  if (last === undefined) return undefined
  const query = new URLSearchParams(ctx.querystring)
  query.set('last', last)
  return `${ctx.path}?${query}`
}
