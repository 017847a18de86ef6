import { Buffer } from 'node:buffer'
import { type LineProblem, LineProblems, linesOf, shownText } from './lines.ts'

// A build by orb, which clears its environment first, has some 400 bytes, and a desktop session some 10 KB.
export const BUILD_ENVIRONMENT_BYTES_MAX = 256 * 1024
const VARIABLES_MAX = 10_000
const VALUE_CHARACTERS_MAX = 64 * 1024
// POSIX, "Environment Variables", and the names that shells and build systems use.
const NAME = /^[A-Za-z_][A-Za-z0-9_.()-]{0,254}$/

// The decoder's replacement for invalid UTF-8. Two different values would look the same.
const REPLACEMENT = '\ufffd'

/** The environment of a build, from `NAME=value` lines. */
export type BuildEnvironment = {
  /** By name, in the order of UTF-16 units, without duplicates. */
  readonly variables: readonly { readonly name: string; readonly value: string }[]
  /** Lines that could not be parsed and were left out. */
  readonly problems: readonly LineProblem[]
}

/**
 * Parses `NAME=value` lines. Among several values of a name the last one counts, and the others are
 * a problem: orb writes its own values after the inherited ones. A file of more than
 * BUILD_ENVIRONMENT_BYTES_MAX is not parsed, which is a problem of the first line.
 */
export function parseBuildEnvironment(bytes: Uint8Array): BuildEnvironment {
  const problems = new LineProblems()
  if (bytes.length > BUILD_ENVIRONMENT_BYTES_MAX) {
    problems.add(
      1,
      `the environment has ${bytes.length} bytes; the limit is ${BUILD_ENVIRONMENT_BYTES_MAX}`,
    )
    return { variables: [], problems: problems.list() }
  }
  const found = new Map<string, string>()
  for (const { number, text } of linesOf(bytes)) {
    const equals = text.indexOf('=')
    const [name, value] = [text.slice(0, Math.max(0, equals)), text.slice(equals + 1)]
    if (equals === -1 || !NAME.test(name)) {
      problems.add(number, `${shownText(text)} is not NAME=value`)
    } else if (value.length > VALUE_CHARACTERS_MAX || value.includes('\0')) {
      problems.add(
        number,
        `the value of ${name} has a NUL or more than ${VALUE_CHARACTERS_MAX} characters`,
      )
    } else if (value.includes(REPLACEMENT)) {
      problems.add(number, `the value of ${name} is not UTF-8`)
    } else if (!found.has(name) && found.size === VARIABLES_MAX) {
      problems.add(number, `there are more than ${VARIABLES_MAX} variables`)
    } else {
      if (found.has(name)) problems.add(number, `a second value of ${name}; the last one counts`)
      found.set(name, value)
    }
  }
  const variables = [...found].map(([name, value]) => ({ name, value }))
  return {
    variables: variables.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    problems: problems.list(),
  }
}

/** Finds the value of SOURCE_DATE_EPOCH without parsing the other variables, in seconds. */
export function findSourceDateEpoch(bytes: Uint8Array): number | undefined {
  if (bytes.length > BUILD_ENVIRONMENT_BYTES_MAX) return undefined
  const lines =
    Buffer.from(bytes)
      .toString()
      .match(/^SOURCE_DATE_EPOCH=.*$/gm) ?? []
  return describeHost(parseBuildEnvironment(Buffer.from(lines.at(-1) ?? ''))).sourceDateEpoch
}

/**
 * The host and the build as the environment describes them. Fields without a variable are
 * undefined.
 */
export type Host = {
  readonly os?: string
  readonly family?: string
  readonly distribution?: string
  readonly version?: string
  readonly architecture?: string
  /** The time of the sources in seconds since 1970: reproducible-builds.org, SOURCE_DATE_EPOCH. */
  readonly sourceDateEpoch?: number
  readonly switchPath?: string
  readonly buildingPackage?: string
}

/** orb's variables for these, which are named like opam's. */
const VARIABLES = {
  os: 'OS',
  family: 'OS_FAMILY',
  distribution: 'OS_DISTRIBUTION',
  version: 'OS_VERSION',
  architecture: 'ARCH',
  switchPath: 'SWITCH_PATH',
  buildingPackage: 'ORB_BUILDING_PACKAGE',
} as const

// RFC 3339 has years of four digits.
const EPOCH_MAX = Date.UTC(9999, 11, 31) / 1000
const WORD_CHARACTERS_MAX = 1000
// No control characters, no surrogates, and no characters that change the direction of a line.
const VISIBLE = /^\P{C}+$/u

/** Reads the checked description of the host from a build environment. */
export function describeHost({ variables }: BuildEnvironment): Host {
  const values = new Map(variables.map(({ name, value }) => [name, value]))
  const fields = Object.entries(VARIABLES).flatMap(([field, name]) => {
    const value = values.get(name)
    if (value === undefined || value.length > WORD_CHARACTERS_MAX) return []
    return VISIBLE.test(value) ? [[field, value]] : []
  })
  const epoch = values.get('SOURCE_DATE_EPOCH') ?? ''
  const isEpoch = /^\d{1,12}$/.test(epoch) && Number(epoch) <= EPOCH_MAX
  return { ...Object.fromEntries(fields), ...(isEpoch ? { sourceDateEpoch: Number(epoch) } : {}) }
}
