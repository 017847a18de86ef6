import { type Digest, parseDigest, shortened } from './digest.ts'
import { RegistryError } from './errors.ts'

/** Made only by `parseRepository`: a `<name>` of the distribution spec. */
export type Repository = string & { readonly __type: 'Repository' }

/** Made only by `parseTag`. */
export type Tag = string & { readonly __type: 'Tag' }

/** A `<reference>` of the distribution spec: a tag or a digest. */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: Tag }
  | { readonly kind: 'digest'; readonly digest: Digest }

// Clients limit host and name together to 255 characters; the name alone may use them all.
export const REPOSITORY_LENGTH_MAX = 255
export const TAG_LENGTH_MAX = 128

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`)
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** Distribution spec, "Pulling manifests". Throws NAME_INVALID. */
export function parseRepository(text: string): Repository {
  // The length is looked at first, so that no expression ever runs over a huge name.
  if (text.length > REPOSITORY_LENGTH_MAX || !REPOSITORY.test(text)) {
    throw new RegistryError(
      'NAME_INVALID',
      { name: shortened(text) },
      {
        message:
          'a repository name has lower-case letters, digits and single . _ __ or - between them, ' +
          `components separated by /, and at most ${REPOSITORY_LENGTH_MAX} characters`,
      },
    )
  }
  return text as Repository
}

/** Distribution spec, "Pulling manifests". */
export function isTag(text: string): text is Tag {
  return text.length <= TAG_LENGTH_MAX && TAG.test(text)
}

/** Throws TAG_INVALID. */
export function parseTag(text: string): Tag {
  if (!isTag(text)) {
    throw new RegistryError(
      'TAG_INVALID',
      { tag: shortened(text) },
      {
        message: `a tag has letters, digits, _ . and -, does not begin with . or -, and has at most ${TAG_LENGTH_MAX} characters`,
      },
    )
  }
  return text
}

/**
 * A reference with a colon was meant as a digest. Throws DIGEST_INVALID for a malformed digest and
 * TAG_INVALID for a malformed tag.
 */
export function parseReference(text: string): Reference {
  return text.includes(':')
    ? { kind: 'digest', digest: parseDigest(text) }
    : { kind: 'tag', tag: parseTag(text) }
}
