import { RegistryError } from '../oci/errors.ts'
import { parseTag, type Tag } from '../oci/reference.ts'
import { queryAll, type RouteContext } from './route.ts'

// The spec asks for at least 10 ("Pushing Manifests"); each is a row that is locked and moved.
const TAGS_A_PUSH_MAX = 64

/** The tags of `?tag=`. Throws TAG_INVALID, URI_TOO_LONG. */
export function queryTags(ctx: RouteContext): Tag[] {
  const tags = queryAll(ctx, 'tag')
  if (tags.length > TAGS_A_PUSH_MAX) {
    throw new RegistryError('URI_TOO_LONG', { tags: tags.length, limit: TAGS_A_PUSH_MAX })
  }
  return tags.map(parseTag)
}
