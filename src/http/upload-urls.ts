import type { UploadUrls } from '../auth/upload-urls.ts'
import { badRequest } from '../oci/errors.ts'
import { isMediaType, isNondistributable, type MediaType } from '../oci/media-type.ts'
import type { Repository } from '../oci/reference.ts'
import type { ImageBuilder } from '../registry/images/builder.ts'
import type { ManifestPush } from '../registry/manifests.ts'
import { ImageForm, sendBuiltImage } from './api/image-builds.ts'
import { parseFileTitle } from './file-title.ts'
import { isForm } from './multipart.ts'
import { param, type Route, type RouteContext } from './route.ts'

/**
 * Where a builder leaves a file with `curl -T`, or a whole image with `curl -X PUT -F`: whoever has
 * the address needs nothing else.
 */
export function uploadUrlRoutes(drops: UploadUrls, maker: ImageBuilder): Route[] {
  const row = (path: string): Route => ({
    method: 'PUT',
    path,
    access: 'none',
    async handle(ctx) {
      const { address, requestId, body } = ctx.state
      await drops.open(param(ctx, 'capability'), { address, requestId }, async (drop) => {
        const { repository, tag, actor } = drop
        assertWholeFile(ctx)
        const within: ManifestPush['inTransaction'] = (tx, pushed) => drop.markUsed(tx, pushed)
        const target = {
          repository,
          tags: [tag],
          actor,
          condition: { kind: 'none' as const },
          within,
        }
        if (isForm(ctx)) {
          const form = new ImageForm(ctx)
          const parts = form.files()
          const made = await maker.build({ ...target, parts, created: () => form.created })
          sendBuiltImage(ctx, repository, [tag], made)
          return
        }
        const made = await maker.buildFromFile({
          ...target,
          title: titleOf(ctx, repository),
          mediaType: mediaTypeOf(ctx),
          incoming: { bytes: body.bytes(), start: undefined, length: body.length },
        })
        sendBuiltImage(ctx, repository, [tag], made)
        ctx.body = { repository, tag, digest: made.digest, blob: made.blob }
      })
    },
  })
  // curl appends the name of the file when the address ends with a slash.
  return [row('/drop/:capability'), row('/drop/:capability/:file')]
}

/** RFC 9110, section 14.5: a part must not be taken for the whole. */
function assertWholeFile(ctx: RouteContext): void {
  if (ctx.headers['content-range'] === undefined) return
  throw badRequest('Content-Range is not understood here: send the whole file')
}

function titleOf(ctx: RouteContext, repository: Repository): string {
  const { file } = ctx.state.params
  if (file === undefined) return repository.slice(repository.lastIndexOf('/') + 1)
  return parseFileTitle(file)
}

const OCTETS = 'application/octet-stream' as MediaType
/** What curl calls a body when nobody said what it is. */
const UNSAID = 'application/x-www-form-urlencoded'

function mediaTypeOf(ctx: RouteContext): MediaType {
  const said = ctx.headers['content-type']?.split(';')[0]?.trim()
  if (said === undefined || said === UNSAID || !isMediaType(said)) return OCTETS
  // By such a type a manifest would say that the bytes lie elsewhere, and they would be swept.
  return isNondistributable(said) ? OCTETS : said
}
