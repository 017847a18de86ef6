import type { Queryable } from '../db/database.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import {
  type FoundPlace,
  findByWords,
  PLACES_MAX,
  type SearchWords,
} from '../db/registry/search.ts'
import { badRequest, RegistryError } from '../oci/errors.ts'
import type { Glob } from '../oci/glob.ts'
import { isTag, parseRepository, type Repository } from '../oci/reference.ts'
import { isUuidInAnyCase } from '../oci/uuid.ts'
import { ECOSYSTEMS, type Ecosystem } from '../unikernel/versions/orders.ts'

export { type FoundPlace, PLACES_MAX }

/** A package that a text names, with a constraint for its versions, or an ecosystem before it. */
export type NamedPackage = {
  readonly ecosystem: Ecosystem
  readonly name: string
  readonly version: string | undefined
}

/** The longest text that a search reads: a repository, a tag or a digest, and the address of a registry. */
export const SEARCH_CHARACTERS_MAX = 600
/** Fewer digits could be those of many digests. */
const DIGITS_MIN = 8

const HEX = new RegExp(`^[0-9a-f]{${DIGITS_MIN},64}$`)
const DIGEST = new RegExp(`^sha(?:256:[0-9a-f]{${DIGITS_MIN},64}|512:[0-9a-f]{${DIGITS_MIN},128})$`)
const PACKAGE = /^[A-Za-z0-9][A-Za-z0-9_+.-]*$/
const NAME_START = /^[a-z0-9][a-z0-9._/-]*$/
const CONSTRAINED = /^([A-Za-z0-9][A-Za-z0-9_+.-]*)\s*([<>=!].*)$/s
const IN_ECOSYSTEM = /^([a-z]+)[\s/]+([A-Za-z0-9][A-Za-z0-9_+.-]*)\s*([<>=!(].*)?$/s
/** Repositories that begin with fewer letters would be most of them. */
const NAME_MAX = 255

/** Returns the package that a text names without doubt: `mirage-crypto<2.1`, `opam tls` or `deb gcc >= 12`. */
export function namedPackage(text: string): NamedPackage | undefined {
  const [, word, named, version] = IN_ECOSYSTEM.exec(text) ?? []
  const ecosystem = ECOSYSTEMS.find((one) => one === word)
  if (ecosystem !== undefined && named !== undefined) return { ecosystem, name: named, version }
  const [, name, constraint] = CONSTRAINED.exec(text) ?? []
  if (name === undefined) return undefined
  return { ecosystem: 'opam', name, version: constraint }
}

/** Finds what a text may mean. `db` is the connection of the question. Throws REQUEST_INVALID for a text that is too long. */
export async function findMeanings(
  db: Queryable,
  text: string,
  visible: readonly Glob[],
): Promise<FoundPlace[]> {
  if (text.length > SEARCH_CHARACTERS_MAX) {
    throw badRequest(`a search has at most ${SEARCH_CHARACTERS_MAX} characters`)
  }
  const words = wordsOf(text)
  const isWord = Object.values(words).some((word) => word !== null)
  return isWord ? findByWords(db, words, await resolveVisible(db, visible)) : []
}

const NOTHING: SearchWords = {
  ...{ digest: null, inputId: null, tag: null, name: null },
  ...{ repository: null, id: null, package: null },
}

function wordsOf(text: string): SearchWords {
  if (isUuidInAnyCase(text)) return { ...NOTHING, id: text.toLowerCase() }
  if (DIGEST.test(text)) return { ...NOTHING, digest: text }
  const at = text.indexOf('@')
  const colon = text.lastIndexOf(':')
  if (at > 0) {
    const [repository, digest] = [repositoryOf(text.slice(0, at)), text.slice(at + 1)]
    return repository !== null && DIGEST.test(digest) ? { ...NOTHING, repository, digest } : NOTHING
  }
  if (colon > 0) {
    const [repository, tag] = [repositoryOf(text.slice(0, colon)), text.slice(colon + 1)]
    return repository !== null && isTag(tag) ? { ...NOTHING, repository, tag } : NOTHING
  }
  const isHex = HEX.test(text)
  return {
    ...NOTHING,
    digest: isHex ? `sha256:${text}` : null,
    inputId: isHex ? text : null,
    tag: isTag(text) ? text : null,
    name: text.length <= NAME_MAX && NAME_START.test(text) ? text : null,
    package: PACKAGE.test(text) ? text : null,
  }
}

function repositoryOf(text: string): Repository | null {
  try {
    return parseRepository(text)
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error
    return null
  }
}
