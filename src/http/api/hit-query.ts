import { badRequest } from '../../oci/errors.ts'
import { parseRepositoryGlob, parseTagGlob } from '../../oci/glob.ts'
import type { HitFilter } from '../../registry/images/package-search.ts'
import type { QueryParameters } from '../query.ts'
import { queryOnce, type RouteContext } from '../route.ts'

/** The parameters that filter the hits of a search. */
export const HIT_FILTER = {
  tagged: 'once',
  tag: 'once',
  repository: 'once',
} as const satisfies QueryParameters

/** Parses the filter of a search. Throws REQUEST_INVALID, and QUERY_INVALID for a parameter that is given twice. */
export function hitFilterOf(ctx: RouteContext): HitFilter {
  const [tagged, tag, repository] = ['tagged', 'tag', 'repository'].map(
    (name) => queryOnce(ctx, name) || undefined,
  )
  if (tagged !== undefined && tagged !== 'true') {
    throw badRequest('tagged must be true: it finds only images with a tag')
  }
  return {
    tagged: tagged === undefined ? undefined : true,
    tag: tag === undefined ? undefined : parseTagGlob(tag),
    repository: repository === undefined ? undefined : parseRepositoryGlob(repository),
  }
}
