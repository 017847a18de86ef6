import { RegistryError } from '../oci/errors.ts'
import { parseNewTag, type Tag } from '../oci/reference.ts'
import { queryAll, type RouteContext } from './route.ts'

// The spec requires at least 10 ("Pushing Manifests"); each is a row to lock and move.
const TAGS_PER_PUSH_MAX = 64

/** Returns the tags of `?tag=`, which the request sets. Throws TAG_INVALID, URI_TOO_LONG. */
export function queryTags(ctx: RouteContext): Tag[] {
  const tags = queryAll(ctx, 'tag')
  if (tags.length > TAGS_PER_PUSH_MAX) {
    const message = `a request sets at most ${TAGS_PER_PUSH_MAX} tags, not ${tags.length}`
    const detail = { tags: tags.length, limit: TAGS_PER_PUSH_MAX }
    throw new RegistryError('URI_TOO_LONG', detail, { message })
  }
  return tags.map(parseNewTag)
}
