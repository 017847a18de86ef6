import type { UploadUrls } from '../auth/upload-urls.ts'
import { badRequest, RegistryError } from '../oci/errors.ts'
import { isMediaType, isNondistributable, type MediaType } from '../oci/media-type.ts'
import type { Repository } from '../oci/reference.ts'
import type { Destination, ImageBuilder, IncomingImagePart } from '../registry/images/builder.ts'
import { sendBuiltImage, sendImage } from './api/image-builds.ts'
import { parseFileTitle } from './file-title.ts'
import { ImageForm } from './image-form.ts'
import { isForm } from './multipart.ts'
import { param, type Route, type RouteContext } from './route.ts'

/**
 * The upload URLs: a builder sends one file with `curl -T`, or a whole image with `curl -X PUT -F`, and
 * needs nothing but the URL.
 */
export function uploadUrlRoutes(uploadUrls: UploadUrls, builder: ImageBuilder): Route[] {
  const row = (path: string): Route => ({
    method: 'PUT',
    path,
    access: 'none',
    storesContent: true,
    async handle(ctx) {
      const { address, requestId, body } = ctx.state
      const request = { address, requestId }
      await uploadUrls.open(param(ctx, 'secret'), request, async (uploadUrl) => {
        const { repository, tag, actor } = uploadUrl
        assertWholeFile(ctx)
        const destination = {
          repository,
          tags: [tag],
          actor,
          precondition: { kind: 'none' },
          bounds: (one) => one === tag,
          inTransaction: (tx, digest) => uploadUrl.markUsed(tx, digest),
        } satisfies Destination
        const limit = { left: UPLOAD_URL_BYTES_MAX }
        if (isForm(ctx)) {
          const form = new ImageForm(ctx).contents()
          const parts = limitedParts(form.parts, limit)
          const built = await builder.build({ ...destination, ...form, parts })
          sendBuiltImage(ctx, repository, [tag], built)
          return
        }
        const built = await builder.buildFromFile({
          ...destination,
          title: titleOf(ctx, repository),
          mediaType: mediaTypeOf(ctx),
          body: { bytes: limited(body.bytes(), limit), start: undefined, length: body.length },
        })
        sendImage(ctx, repository, built)
        const { digest, blob, deployments } = built
        ctx.body = { repository, tag, digest, blob, deployments }
      })
    },
  })
  // curl -T appends the file name to a URL that ends with a slash.
  return [row('/upload/:secret'), row('/upload/:secret/:file')]
}

/** The files of one push through an upload URL have at most so many bytes in total. */
export const UPLOAD_URL_BYTES_MAX = 1024 ** 3

type Limit = { left: number }

/** Throws PAYLOAD_TOO_LARGE when the bytes exceed the limit. */
async function* limited(
  bytes: AsyncIterable<Uint8Array>,
  limit: Limit,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    limit.left -= chunk.length
    if (limit.left < 0) {
      const message = `an upload URL accepts at most ${UPLOAD_URL_BYTES_MAX} bytes: push with a credential`
      throw new RegistryError('PAYLOAD_TOO_LARGE', undefined, { message })
    }
    yield chunk
  }
}

async function* limitedParts(
  parts: AsyncIterable<IncomingImagePart>,
  limit: Limit,
): AsyncGenerator<IncomingImagePart> {
  for await (const part of parts) {
    yield { ...part, body: { ...part.body, bytes: limited(part.body.bytes, limit) } }
  }
}

/** RFC 9110, section 14.5: a server that does not support partial PUT must refuse Content-Range. */
function assertWholeFile(ctx: RouteContext): void {
  if (ctx.headers['content-range'] === undefined) return
  throw badRequest('Content-Range is not supported here: send the whole file')
}

function titleOf(ctx: RouteContext, repository: Repository): string {
  const { file } = ctx.state.params
  if (file === undefined) return repository.slice(repository.lastIndexOf('/') + 1)
  return parseFileTitle(file)
}

const OCTET_STREAM = 'application/octet-stream' as MediaType
/** The Content-Type that curl sends for a body when the user gave none. */
const CURL_DEFAULT = 'application/x-www-form-urlencoded'

function mediaTypeOf(ctx: RouteContext): MediaType {
  const given = ctx.headers['content-type']?.split(';')[0]?.trim()
  if (given === undefined || given === CURL_DEFAULT || !isMediaType(given)) return OCTET_STREAM
  // With such a type the manifest would claim that the bytes are elsewhere, and they would be collected.
  return isNondistributable(given) ? OCTET_STREAM : given
}
