import { type Digest, parseDigest } from '../../oci/digest.ts'
import type { Blob, Blobs, ByteRange } from '../../registry/blobs.ts'
import { entityTag, isKnown } from '../conditions.ts'
import { parseRange } from '../ranges.ts'
import { actorOf, param, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import { sendBytes } from '../send.ts'

const PATH = '/v2/*repository/blobs/:digest'

/** Distribution spec, "Pulling blobs" and "Deleting Blobs". */
export function blobRoutes(blobs: Blobs): Route[] {
  return [
    {
      spec: ['end-2'],
      method: 'HEAD',
      path: PATH,
      access: 'pull',
      async handle(ctx) {
        const blob = await blobs.confirm(viewOf(ctx), parseDigest(param(ctx, 'digest')))
        describe(ctx, blob)
        if (isKnown(ctx.headers['if-none-match'], blob.digest)) ctx.status = 304
        else ctx.length = blob.size
      },
    },
    {
      spec: ['end-2'],
      method: 'GET',
      path: PATH,
      access: 'pull',
      async handle(ctx) {
        const blob = await blobs.find(viewOf(ctx), parseDigest(param(ctx, 'digest')))
        describe(ctx, blob)
        if (isKnown(ctx.headers['if-none-match'], blob.digest)) {
          ctx.status = 304
          return
        }
        const range = wantedRange(ctx, blob)
        if (await sentElsewhere(ctx, blob, range)) return
        const { start, end } = range ?? { start: 0, end: blob.size - 1 }
        if (range !== undefined) {
          ctx.status = 206
          ctx.set('Content-Range', `bytes ${start}-${end}/${blob.size}`)
        }
        const length = end - start + 1
        await sendBytes(ctx, length, length === 0 ? nothing() : blob.read({ start, end }))
      },
    },
    {
      spec: ['end-10'],
      method: 'DELETE',
      path: PATH,
      access: 'delete',
      async handle(ctx) {
        await blobs.remove(repositoryOf(ctx), parseDigest(param(ctx, 'digest')), actorOf(ctx))
        ctx.status = 202
        ctx.body = ''
      },
    },
  ]
}

function describe(ctx: RouteContext, blob: { digest: Digest }): void {
  ctx.status = 200
  ctx.set({
    'Content-Type': 'application/octet-stream',
    'Docker-Content-Digest': blob.digest,
    ETag: entityTag(blob.digest),
    'Accept-Ranges': 'bytes',
  })
}

/**
 * True when the client was sent to the store, to ask there for the same range. What stores answer in
 * their own ways stays here: ranges that are to be ignored, and If-Range, because their ETags differ.
 */
async function sentElsewhere(
  ctx: RouteContext,
  blob: Blob,
  range: ByteRange | undefined,
): Promise<boolean> {
  if (blob.size === 0 || ctx.headers['if-range'] !== undefined) return false
  if (ctx.headers.range !== undefined && range === undefined) return false
  const link = await blob.link()
  if (link === undefined) return false
  ctx.status = 307
  ctx.set({ Location: link, 'Cache-Control': 'no-store' })
  ctx.body = ''
  return true
}

/** If-Range: the range counts only while the client still means these bytes. */
function wantedRange(ctx: RouteContext, blob: Blob) {
  const ifRange = ctx.headers['if-range']
  if (ifRange !== undefined && ifRange !== entityTag(blob.digest)) return undefined
  return parseRange(ctx.headers.range, blob.size)
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
