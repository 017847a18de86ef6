/** An authentication challenge of a registry (RFC 9110, section 11.6.1). */
export type Challenge = {
  /** In lower case. */
  readonly scheme: string
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>
}

const CHALLENGE_CHARACTERS_MAX = 8 * 1024
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const PARAMETER = new RegExp(`(${TOKEN})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`, 'y')
const SCHEME = new RegExp(`(${TOKEN})(?=[ \\t,]|$)`, 'y')
const BETWEEN = /[ \t,]*/y
const REST = /[^,]*/y

/**
 * Parses the challenges of a WWW-Authenticate header, in order. Skips malformed ones. Ignores a header
 * of more than 8 KiB.
 */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = []
  if (header.length > CHALLENGE_CHARACTERS_MAX) return challenges
  let at = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const found = pattern.exec(header)
    if (found !== null) at = pattern.lastIndex
    return found
  }
  for (;;) {
    take(BETWEEN)
    if (at >= header.length) return challenges
    const open = challenges.at(-1)
    const parameter = open === undefined ? null : take(PARAMETER)
    if (open !== undefined && parameter !== null) {
      const [, name = '', quoted, plain = ''] = parameter
      open.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain)
      continue
    }
    const scheme = take(SCHEME)?.[1]
    if (scheme !== undefined) {
      challenges.push({ scheme: scheme.toLowerCase(), parameters: new Map() })
    } else if (take(REST)?.[0] === '') at += 1
  }
}
