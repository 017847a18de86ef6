import type { Drops } from '../auth/drops.ts'
import { OciError } from '../oci/errors.ts'
import { isMediaType, isNondistributable, type MediaType } from '../oci/media-type.ts'
import type { Repository } from '../oci/reference.ts'
import { receiveFile } from '../registry/drops.ts'
import type { Manifests } from '../registry/manifests.ts'
import type { Uploads } from '../registry/uploads.ts'
import { param, type Route, type RouteContext } from './route.ts'

/** Where a builder leaves one file with `curl -T`: whoever has the address needs nothing else. */
export function dropRoutes(drops: Drops, uploads: Uploads, manifests: Manifests): Route[] {
  const row = (path: string): Route => ({
    method: 'PUT',
    path,
    access: 'none',
    async handle(ctx) {
      const { address, requestId, body } = ctx.state
      await drops.open(param(ctx, 'capability'), { address, requestId }, async (drop) => {
        const { repository, tag, actor } = drop
        demandWhole(ctx)
        const { digest, blob } = await receiveFile(uploads, manifests, {
          repository,
          tag,
          title: titleOf(ctx, repository),
          mediaType: mediaTypeOf(ctx),
          incoming: { bytes: body.bytes(), start: undefined, length: body.length },
          actor,
          within: (tx, pushed) => drop.use(tx, pushed),
        })
        ctx.status = 201
        ctx.set({
          Location: `/v2/${repository}/manifests/${digest}`,
          'Docker-Content-Digest': digest,
        })
        ctx.body = { repository, tag, digest, blob }
      })
    },
  })
  // curl appends the name of the file when the address ends with a slash.
  return [row('/drop/:capability'), row('/drop/:capability/:file')]
}

/** RFC 9110, section 14.5: a part must not be taken for the whole. */
function demandWhole(ctx: RouteContext): void {
  if (ctx.headers['content-range'] === undefined) return
  throw invalid('Content-Range is not understood here: send the whole file')
}

// As most file systems have it.
const NAME_BYTES_MAX = 255
// Clients save the file under this name.
const UNFIT = /^\.{0,2}$|[/\\\p{Cc}]/u

function titleOf(ctx: RouteContext, repository: Repository): string {
  const { file } = ctx.state.params
  if (file === undefined) return repository.slice(repository.lastIndexOf('/') + 1)
  if (UNFIT.test(file) || Buffer.byteLength(file) > NAME_BYTES_MAX) {
    throw invalid(
      `a file name has no slash, backslash or control character, and at most ${NAME_BYTES_MAX} bytes`,
    )
  }
  return file
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

function invalid(message: string): OciError {
  return new OciError('REQUEST_INVALID', undefined, { message })
}
