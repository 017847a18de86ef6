import type { UploadUrls } from '../../auth/upload-urls.ts'
import { parseNewTag } from '../../oci/reference.ts'
import { actorOf, param, type Route, type RouteContext, repositoryOf } from '../route.ts'
import { readOptionalFields } from './json-fields.ts'

/** Creation of upload URLs, for callers that may push the tag. Only this response has the URL. */
export function uploadUrlCreationRoutes(
  uploadUrls: UploadUrls,
  publicBaseUrl: (ctx: RouteContext) => string,
): Route[] {
  return [
    {
      method: 'POST',
      path: '/api/v1/repositories/*repository/tags/:tag/upload-urls',
      access: 'push',
      tags: (ctx) => [parseNewTag(param(ctx, 'tag'))],
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const tag = parseNewTag(param(ctx, 'tag'))
        const { networks } = ctx.state
        const request = { repository, tag, networks, seconds: await readSeconds(ctx) }
        const created = await uploadUrls.create(request, actorOf(ctx), publicBaseUrl(ctx))
        ctx.status = 201
        ctx.set('Cache-Control', 'no-store')
        ctx.body = { ...created, repository, tag }
      },
    },
  ]
}

function readSeconds(ctx: RouteContext): Promise<number | undefined> {
  return readOptionalFields(ctx, (fields) => fields.optionalNumber('ttlSeconds'))
}
