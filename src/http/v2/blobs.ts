import { tagBoundsOf } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import type { Blobs } from '../../registry/blobs.ts'
import { actorOf, hotRoute, param, type Route, repositoryOf, viewOf } from '../route.ts'
import { sendBlob, sendBlobHeaders } from '../send-blob.ts'

const PATH = '/v2/*repository/blobs/:digest'

/** The routes of "Pulling blobs" and "Deleting Blobs" in the distribution spec. */
export function blobRoutes(blobs: Blobs): Route[] {
  return [
    hotRoute({
      spec: ['end-2'],
      method: 'HEAD',
      path: PATH,
      access: 'pull',
      query: 'any',
      reads: 'rows',
      async handle(ctx) {
        const blob = await blobs.stat(viewOf(ctx), parseDigest(param(ctx, 'digest')))
        sendBlobHeaders(ctx, blob)
      },
    }),
    {
      spec: ['end-2'],
      method: 'GET',
      path: PATH,
      access: 'pull',
      query: 'any',
      reads: 'rows',
      async handle(ctx) {
        const blob = await blobs.find(viewOf(ctx), parseDigest(param(ctx, 'digest')))
        await sendBlob(ctx, blob)
      },
    },
    {
      spec: ['end-10'],
      method: 'DELETE',
      path: PATH,
      access: 'delete',
      query: 'any',
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const bounds = tagBoundsOf(ctx.state.caller, 'delete', repository)
        await blobs.remove(repository, parseDigest(param(ctx, 'digest')), actorOf(ctx), bounds)
        ctx.status = 202
        ctx.body = ''
      },
    },
  ]
}
