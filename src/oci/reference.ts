import { type Digest, parseDigest, shortened } from './digest.ts'
import { RegistryError } from './errors.ts'

/** A `<name>` of the distribution spec, made only by `parseRepository`. */
export type Repository = string & { readonly __type: 'Repository' }

/** A tag of the distribution spec, made only by `parseTag`. */
export type Tag = string & { readonly __type: 'Tag' }

/** A `<reference>` of the distribution spec: a tag or a digest. */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: Tag }
  | { readonly kind: 'digest'; readonly digest: Digest }

// Clients limit host and name together to 255 characters; the name alone may have 255.
export const REPOSITORY_LENGTH_MAX = 255
export const TAG_LENGTH_MAX = 128

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`)
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** Parses a repository name: distribution spec, "Pulling manifests". Throws NAME_INVALID. */
export function parseRepository(text: string): Repository {
  // The length first, so that the expression never runs over a huge name.
  if (text.length > REPOSITORY_LENGTH_MAX || !REPOSITORY.test(text)) {
    throw new RegistryError(
      'NAME_INVALID',
      { name: shortened(text) },
      {
        message:
          'a repository name must have lower-case letters, digits and single . _ __ or - between them, ' +
          `components separated by /, and at most ${REPOSITORY_LENGTH_MAX} characters`,
      },
    )
  }
  return text as Repository
}

/** True for a tag: distribution spec, "Pulling manifests". */
export function isTag(text: string): text is Tag {
  return text.length <= TAG_LENGTH_MAX && TAG.test(text)
}

/** Parses a tag. Throws TAG_INVALID. */
export function parseTag(text: string): Tag {
  if (!isTag(text)) {
    throw new RegistryError(
      'TAG_INVALID',
      { tag: shortened(text) },
      {
        message: `a tag must have letters, digits, _ . and -, must not begin with . or -, and has at most ${TAG_LENGTH_MAX} characters`,
      },
    )
  }
  return text
}

/**
 * Words that follow a repository in the paths of `/api/v1`. No new tag has one of these names: otherwise `a/images/builds`
 * would be the tag `builds` of `a`, and the builds of `a/images`. See "Names in paths" in spec/http-api.md.
 */
export const RESERVED_TAGS: readonly string[] = [
  'builds',
  'deployments',
  'images',
  'settings',
  'tags',
]

/** Parses a tag that a request sets. Throws TAG_INVALID, also for a reserved tag. */
export function parseNewTag(text: string): Tag {
  const tag = parseTag(text)
  if (!RESERVED_TAGS.includes(tag)) return tag
  throw new RegistryError(
    'TAG_INVALID',
    { tag, reserved: RESERVED_TAGS },
    {
      message:
        `the tag "${tag}" is reserved, because paths of the API have this word after a repository: ` +
        `a tag must have another name than ${RESERVED_TAGS.join(', ')}`,
    },
  )
}

/**
 * Parses a reference; one with a colon is a digest. Throws DIGEST_INVALID for a malformed digest and
 * TAG_INVALID for a malformed tag.
 */
export function parseReference(text: string): Reference {
  return text.includes(':')
    ? { kind: 'digest', digest: parseDigest(text) }
    : { kind: 'tag', tag: parseTag(text) }
}
