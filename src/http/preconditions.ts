import { badRequest } from '../oci/errors.ts'
import type { Precondition } from '../registry/precondition.ts'

const ENTITY_TAGS_MAX = 32

/** Returns the quoted digest as the entity tag: content under a digest never changes. */
export function entityTag(digest: string): string {
  return `"${digest}"`
}

/** Parses If-Match or If-None-Match into digests. Some clients send digests without quotes. */
export function parseEntityTags(header: string): readonly string[] | '*' {
  if (header.trim() === '*') return '*'
  return header
    .split(',', ENTITY_TAGS_MAX)
    .map((tag) =>
      tag
        .trim()
        .replace(/^W\//, '')
        .replace(/^"(.*)"$/, '$1'),
    )
    .filter((tag) => tag !== '')
}

/** True when the client has the content already, so that the response is 304. */
export function isNotModified(ifNoneMatch: string | undefined, digest: string): boolean {
  if (ifNoneMatch === undefined) return false
  const tags = parseEntityTags(ifNoneMatch)
  return tags === '*' || tags.includes(digest)
}

/** Parses the precondition of a change. Throws REQUEST_INVALID for two preconditions. */
export function parsePrecondition(headers: {
  'if-match'?: string | undefined
  'if-none-match'?: string | undefined
}): Precondition {
  const match = headers['if-match']
  const noneMatch = headers['if-none-match']
  if (match !== undefined && noneMatch !== undefined) {
    throw badRequest('send If-Match or If-None-Match, not both')
  }
  if (match !== undefined) return { kind: 'match', digests: parseEntityTags(match) }
  if (noneMatch !== undefined) return { kind: 'none-match', digests: parseEntityTags(noneMatch) }
  return { kind: 'none' }
}
