import { type Option, parsed, withDefault } from './command.ts'
import { UsageError } from './errors.ts'

/** A number from `min` to `max`. Throws UsageError. */
export function parseNumber(flag: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!/^\d+(?:\.\d+)?$/.test(text) || value < min || value > max) {
    throw new UsageError(`${flag} must be a number from ${min} to ${max}, not "${text}"`)
  }
  return value
}

/** The most rows that a command lists. A program asks the API page by page. */
export const LISTED_MAX = 10_000
const LISTED_DEFAULT = '100'

/** The line after a list that its limit has cut. */
export const MORE_LINE = 'There are more: raise --limit.'

/** The option for the number of listed rows. */
export const LIMIT_OPTION: { readonly limit: Option<number> } = {
  limit: withDefault(
    parsed('N', `list at most N, up to ${LISTED_MAX}`, (flag, text) => {
      const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0
      if (limit >= 1 && limit <= LISTED_MAX) return limit
      throw new UsageError(`${flag} must be a number from 1 to ${LISTED_MAX}, not "${text}"`)
    }),
    LISTED_DEFAULT,
  ),
}
