import { invalidQuery, RegistryError } from '../oci/errors.ts'
import { queryOnce, type RouteContext } from './route.ts'

// 1000 names are about 30 kB. A client that requests more gets a Link to the next page.
export const PAGE_LIMIT_MAX = 1000
const NUMBER = /^\d{1,15}$/

/** The parameter `n`, at most PAGE_LIMIT_MAX; `otherwise` when it is missing. Throws PAGINATION_NUMBER_INVALID. */
export function pageLimit(ctx: RouteContext, otherwise = PAGE_LIMIT_MAX): number {
  const text = queryOnce(ctx, 'n')
  if (text === undefined) return otherwise
  if (!NUMBER.test(text)) {
    throw new RegistryError(
      'PAGINATION_NUMBER_INVALID',
      { n: text.slice(0, 40) },
      { message: 'n must be a whole number, 0 or more' },
    )
  }
  return Math.min(Number(text), PAGE_LIMIT_MAX)
}

/** The number that the cursor of the previous page holds; undefined for the first page. Throws QUERY_INVALID. */
export function pageCursor(ctx: RouteContext, parameter = 'last'): number | undefined {
  return pageCursorNumbers(ctx, 1, parameter)?.[0]
}

/** The `count` numbers, joined by dots, that a cursor holds; undefined for the first page. Throws QUERY_INVALID. */
export function pageCursorNumbers(
  ctx: RouteContext,
  count: number,
  parameter = 'last',
): number[] | undefined {
  const text = queryOnce(ctx, parameter)
  if (text === undefined) return undefined
  const numbers = text.split('.', count + 1)
  if (numbers.length !== count || !numbers.every((number) => NUMBER.test(number))) {
    throw invalidQuery(`${parameter} must be the cursor from the previous page's Link header`)
  }
  return numbers.map(Number)
}

/** Sets the Link header to the next page (RFC 8288). */
export function setNextLink(ctx: RouteContext, query: Record<string, string | undefined>): void {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.append(name, value)
  }
  const path = ctx.path.replace(/[<>]/g, encodeURIComponent)
  ctx.set('Link', `<${path}?${parameters}>; rel="next"`)
}

/** Answers a page of resources in the order of their names, after `last`, with a Link to the next page. */
export async function pageByName<T extends { readonly name: string }>(
  ctx: RouteContext,
  list: (last: string, limit: number) => Promise<T[]>,
): Promise<T[]> {
  const limit = pageLimit(ctx)
  const found = await list(queryOnce(ctx, 'last') ?? '', limit + 1)
  const shown = found.slice(0, limit)
  if (found.length > limit) setNextLink(ctx, { last: shown.at(-1)?.name, n: String(limit) })
  return shown
}
