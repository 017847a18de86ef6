const LENGTH_MAX = 2048
// Browsers read a backslash as a slash, and what follows two slashes as a host. No page begins with an encoded character.
const PATH = /^\/(?![/%])[!-[\]-~]*$/
/** A login that returned here would do nothing. */
const LOGIN = /^\/log(?:in|out)(?:[/?#]|$)/

/**
 * Returns the path with its query, to which a login returns. A text that is no path of this registry leads to the start page: a
 * link to the form must not send anybody to another site.
 */
export function parseReturnPath(text: string | undefined): string {
  if (text === undefined || text.length > LENGTH_MAX || !PATH.test(text)) return '/'
  const base = 'http://registry.invalid'
  const { origin, pathname, search } = new URL(text, base)
  const path = `${pathname}${search}`
  return origin === base && PATH.test(path) && !LOGIN.test(path) ? path : '/'
}
