import { type NetworkList, parseAddress, unmapAddress } from '../networks/networks.ts'

/** One proxy's element of `Forwarded` (RFC 7239): the parameters by their names in lower case. */
export type ForwardedElement = ReadonlyMap<string, string>

const PARAMETER = /[ \t]*([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]+))[ \t]*([,;]|$)/y

/** Parses `Forwarded`. A malformed header, and one that repeats a parameter, has no elements. */
export function parseForwarded(header: string): ForwardedElement[] {
  let element = new Map<string, string>()
  const elements = [element]
  PARAMETER.lastIndex = 0
  while (PARAMETER.lastIndex < header.length) {
    const match = PARAMETER.exec(header)
    const name = match?.[1]?.toLowerCase()
    if (match === null || name === undefined || element.has(name)) return []
    element.set(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3] ?? '')
    if (match[4] === ',') {
      element = new Map()
      elements.push(element)
    }
  }
  return elements
}

/**
 * Returns the element of the trusted proxy that is nearest to the client. Elements before it are the
 * client's own words.
 */
export function clientElement(
  elements: readonly ForwardedElement[],
  trusted: NetworkList,
): ForwardedElement | undefined {
  const reversed = elements.toReversed()
  const isClients = (element: ForwardedElement) => {
    const address = withoutPort(element.get('for') ?? '')
    return parseAddress(address) === undefined || !trusted.has(address)
  }
  return reversed.find(isClients) ?? reversed.at(-1)
}

/** Returns the address of `192.0.2.1:4711` or `[2001:db8::1]:4711`; some proxies add the port. */
export function withoutPort(text: string): string {
  const address = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(text)?.[1]
  return unmapAddress(address ?? /^(\d+(?:\.\d+){3}):\d{1,5}$/.exec(text)?.[1] ?? text)
}
