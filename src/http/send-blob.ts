import type { Digest } from '../oci/digest.ts'
import type { Blob, ByteRange } from '../registry/blobs.ts'
import { entityTag, isNotModified } from './preconditions.ts'
import { parseRange } from './ranges.ts'
import type { RouteContext } from './route.ts'
import { sendBytes } from './send-bytes.ts'

/** Answers a HEAD for a blob: everything but its bytes, or 304 when the client has them. */
export function sendBlobHeaders(ctx: RouteContext, blob: { digest: Digest; size: number }): void {
  describe(ctx, blob)
  if (isNotModified(ctx.headers['if-none-match'], blob.digest)) ctx.status = 304
  else ctx.length = blob.size
}

/**
 * Answers a GET for a blob: its bytes or a range of them, 304 when the client has them, or where the
 * store gives them. Throws RANGE_INVALID.
 */
export async function sendBlob(ctx: RouteContext, blob: Blob): Promise<void> {
  await answerWith(ctx, blob, true)
}

/**
 * The same, but always with the bytes: a client that keeps the ETag of the last answer, as
 * `curl --etag-save` does, would keep the store's.
 */
export async function passBlob(ctx: RouteContext, blob: Blob): Promise<void> {
  await answerWith(ctx, blob, false)
}

async function answerWith(ctx: RouteContext, blob: Blob, elsewhere: boolean): Promise<void> {
  describe(ctx, blob)
  if (isNotModified(ctx.headers['if-none-match'], blob.digest)) {
    ctx.status = 304
    return
  }
  const range = wantedRange(ctx, blob)
  if (elsewhere && (await sentElsewhere(ctx, blob, range))) return
  const { start, end } = range ?? { start: 0, end: blob.size - 1 }
  if (range !== undefined) {
    ctx.status = 206
    ctx.set('Content-Range', `bytes ${start}-${end}/${blob.size}`)
  }
  const length = end - start + 1
  await sendBytes(ctx, length, length === 0 ? nothing() : blob.read({ start, end }))
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
