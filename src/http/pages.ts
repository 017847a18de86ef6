import { RegistryError } from '../oci/errors.ts'
import { queryOnce, type RouteContext } from './route.ts'

// 1000 names are some 30 kB. A client that asks for more gets a Link instead.
export const PAGE_LIMIT_MAX = 1000
const NUMBER = /^\d{1,15}$/

/** `n`, clamped. Throws PAGINATION_NUMBER_INVALID. */
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

/** The Link header of a page that has another behind it (RFC 8288). */
export function setNextLink(ctx: RouteContext, query: Record<string, string | undefined>): void {
  const parameters = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined) parameters.append(name, value)
  }
  const path = ctx.path.replace(/[<>]/g, encodeURIComponent)
  ctx.set('Link', `<${path}?${parameters}>; rel="next"`)
}

/** A page of named things, those after `last`, with a Link when there are more. */
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
