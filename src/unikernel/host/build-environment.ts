import { type LineProblem, LineProblems, linesOf, shownText } from './lines.ts'

// That of a build by orb, which clears its environment first, has some 400 bytes.
export const BUILD_ENVIRONMENT_BYTES_MAX = 1024 * 1024
const VARIABLES_MAX = 10_000
const VALUE_CHARACTERS_MAX = 64 * 1024
// POSIX, "Environment Variables", and what shells and build systems really use.
const NAME = /^[A-Za-z_][A-Za-z0-9_.()-]{0,254}$/

// What a decoder writes for bytes that are no UTF-8. Two values that differ would look the same.
const REPLACEMENT = '\ufffd'

/** The environment in which a build ran, as `NAME=value` lines say it. */
export type BuildEnvironment = {
  /** By name, in the order of UTF-16 units; each once. */
  readonly variables: readonly { readonly name: string; readonly value: string }[]
  /** What was not understood, and so left out. */
  readonly problems: readonly LineProblem[]
}

/**
 * Reads `NAME=value` lines. Of a name that stands twice the last value counts, and it is a problem: orb
 * writes its own values behind those that it was given. Of more than BUILD_ENVIRONMENT_BYTES_MAX
 * nothing is read, which is a problem of the first line.
 */
export function parseBuildEnvironment(bytes: Uint8Array): BuildEnvironment {
  const problems = new LineProblems()
  if (bytes.length > BUILD_ENVIRONMENT_BYTES_MAX) {
    problems.add(
      1,
      `the environment has ${bytes.length} bytes, and ${BUILD_ENVIRONMENT_BYTES_MAX} are the limit`,
    )
    return { variables: [], problems: problems.list() }
  }
  const found = new Map<string, string>()
  for (const { number, text } of linesOf(bytes)) {
    const equals = text.indexOf('=')
    const [name, value] = [text.slice(0, Math.max(0, equals)), text.slice(equals + 1)]
    if (equals === -1 || !NAME.test(name)) {
      problems.add(number, `${shownText(text)} is no NAME=value`)
    } else if (value.length > VALUE_CHARACTERS_MAX || value.includes('\0')) {
      problems.add(
        number,
        `the value of ${name} has a NUL or more than ${VALUE_CHARACTERS_MAX} characters`,
      )
    } else if (value.includes(REPLACEMENT)) {
      problems.add(number, `the value of ${name} is no UTF-8`)
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

/** What the environment says of the machine and of the build. What it does not say lacks. */
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

/** orb's names of these, which are those of opam's variables. */
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
// No control characters, no surrogates, nothing that changes the direction of a line.
const VISIBLE = /^\P{C}+$/u

/** What a build environment says of its host, checked. */
export function describeHost({ variables }: BuildEnvironment): Host {
  const values = new Map(variables.map(({ name, value }) => [name, value]))
  const said = Object.entries(VARIABLES).flatMap(([field, name]) => {
    const value = values.get(name)
    if (value === undefined || value.length > WORD_CHARACTERS_MAX) return []
    return VISIBLE.test(value) ? [[field, value]] : []
  })
  const epoch = values.get('SOURCE_DATE_EPOCH') ?? ''
  const isEpoch = /^\d{1,12}$/.test(epoch) && Number(epoch) <= EPOCH_MAX
  return { ...Object.fromEntries(said), ...(isEpoch ? { sourceDateEpoch: Number(epoch) } : {}) }
}
