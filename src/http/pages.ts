import { CursorCipher } from '../events/cursor-cipher.ts'
import { invalidQuery, RegistryError } from '../oci/errors.ts'
import { queryOnce, type RouteContext } from './route.ts'

// 1000 names are about 30 kB. A client that requests more gets a Link to the next page.
const PAGE_LIMIT_MAX = 1000
/** Names of a list without n: some clients follow no Link. */
export const NAMES_WITHOUT_N_MAX = 10_000
const NUMBER = /^\d{1,15}$/
/** The space of encrypted numbers of rows. */
const LIST = 0

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

/**
 * The cursors of lists, which the Link header has. They are encrypted, because the numbers of rows count those of all
 * repositories.
 */
export class PageCursors {
  readonly #cipher: CursorCipher

  /** `key`: 32 bytes, the same on all replicas. */
  constructor(key: Uint8Array) {
    this.#cipher = new CursorCipher(key)
  }

  /** Returns the cursor of a page that begins after the row with these numbers. */
  format(...numbers: readonly number[]): string {
    return numbers.map((number) => this.#cipher.encrypt(LIST, number)).join('.')
  }

  /** The number that the cursor of the previous page holds; undefined for the first page. Throws QUERY_INVALID. */
  read(ctx: RouteContext): number | undefined {
    return this.readNumbers(ctx, 1)?.[0]
  }

  /** The `count` numbers that a cursor holds; undefined for the first page. Throws QUERY_INVALID. */
  readNumbers(ctx: RouteContext, count: number): number[] | undefined {
    const text = queryOnce(ctx, 'last')
    if (text === undefined) return undefined
    const numbers = this.numbersOf(text, count)
    if (numbers !== undefined) return numbers
    throw invalidQuery("last must be the cursor from the previous page's Link header")
  }

  /** The `count` numbers of a text of `format`; undefined for another text. */
  numbersOf(text: string, count: number): number[] | undefined {
    const numbers = text.split('.', count + 1).flatMap((part) => {
      const found = this.#cipher.decrypt(part)
      return found?.space === LIST ? [found.value] : []
    })
    return numbers.length === count ? numbers : undefined
  }
}

/** The number that an administrator gives, as entries show it; undefined for the first page. Throws QUERY_INVALID. */
export function pageNumber(ctx: RouteContext, parameter: string): number | undefined {
  const text = queryOnce(ctx, parameter)
  if (text === undefined) return undefined
  if (NUMBER.test(text)) return Number(text)
  throw invalidQuery(`${parameter} must be the cursor from the previous page's Link header`)
}

/** Sets the Link header to the next page of a list of names. */
export function setNextNamesLink(ctx: RouteContext, last: string | undefined, limit: number): void {
  setNextLink(ctx, { last, n: String(Math.min(limit, PAGE_LIMIT_MAX)) })
}

/** Sets the Link header to the next page (RFC 8288). */
export function setNextLink(
  ctx: RouteContext,
  query: Record<string, string | undefined> | readonly (readonly [string, string])[],
): void {
  const parameters = new URLSearchParams()
  for (const [name, value] of Array.isArray(query) ? query : Object.entries(query)) {
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
