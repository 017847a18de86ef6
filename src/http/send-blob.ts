import type { Digest } from '../oci/digest.ts'
import type { Blob, ByteRange } from '../registry/blobs.ts'
import { entityTag, isNotModified } from './preconditions.ts'
import { parseRange } from './ranges.ts'
import type { HotRouteContext, RouteContext } from './route.ts'
import { sendBytes } from './send-bytes.ts'

/** Answers HEAD for a blob: the headers, or 304 when the client has the blob. */
export function sendBlobHeaders(
  ctx: HotRouteContext,
  blob: { digest: Digest; size: number },
): void {
  setBlobHeaders(ctx, blob)
  if (isNotModified(ctx.headers['if-none-match'], blob.digest)) ctx.status = 304
  else ctx.length = blob.size
}

type SendBlobOptions = {
  readonly redirect?: boolean
  readonly isText?: boolean
  /** In place of the digest, as clients of another protocol know it. */
  readonly etag?: string
}

/**
 * Answers GET for a blob: the bytes or a range of them, 304 when the client has the blob, or a redirect
 * to the store. With `redirect: false` never a redirect: a client that saves the ETag of the last
 * response, as `curl --etag-save` does, would save the store's. With `isText` a browser
 * shows the bytes as text, without running anything. Throws RANGE_INVALID.
 */
export async function sendBlob(
  ctx: RouteContext,
  blob: Blob,
  { redirect = true, isText = false, etag }: SendBlobOptions = {},
): Promise<void> {
  setBlobHeaders(ctx, blob)
  if (etag !== undefined) ctx.set('ETag', etag)
  if (isText) {
    ctx.set({ 'Content-Type': 'text/plain; charset=utf-8', 'Content-Disposition': 'inline' })
  }
  if (isNotModified(ctx.headers['if-none-match'], etag ?? blob.digest)) {
    ctx.status = 304
    return
  }
  const range = requestedRange(ctx, blob)
  if (redirect && (await redirectToStore(ctx, blob, range))) return
  const { start, end } = range ?? { start: 0, end: blob.size - 1 }
  if (range !== undefined) {
    ctx.status = 206
    ctx.set('Content-Range', `bytes ${start}-${end}/${blob.size}`)
  }
  const length = end - start + 1
  await sendBytes(ctx, length, length === 0 ? noBytes() : blob.read({ start, end }))
}

function setBlobHeaders(ctx: HotRouteContext, blob: { digest: Digest }): void {
  ctx.status = 200
  ctx.set({
    'Content-Type': 'application/octet-stream',
    'Docker-Content-Digest': blob.digest,
    ETag: entityTag(blob.digest),
    'Accept-Ranges': 'bytes',
  })
  // A kernel has its file name already.
  if (!ctx.res.hasHeader('Content-Disposition')) ctx.set('Content-Disposition', 'attachment')
}

/**
 * Redirects the client to the store, which gets the same Range header. Returns false without a redirect
 * where stores differ from the registry: for ranges that the registry ignores, and for If-Range, because
 * their ETags differ.
 */
async function redirectToStore(
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

/** Returns the requested range; undefined when If-Range names other content. */
function requestedRange(ctx: RouteContext, blob: Blob) {
  const ifRange = ctx.headers['if-range']
  if (ifRange !== undefined && ifRange !== entityTag(blob.digest)) return undefined
  return parseRange(ctx.headers.range, blob.size)
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}
