import { pullablePatterns } from '../../auth/access.ts'
import { badRequest } from '../../oci/errors.ts'
import type {
  SourceCursor,
  SourceSearch,
  WantedSource,
} from '../../registry/images/source-search.ts'
import { findWantedChecksum, findWantedRepository } from '../../unikernel/opam/wanted-source.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext } from '../route.ts'
import { HIT_FILTER, hitFilterOf } from './hit-query.ts'
import { sourceHit } from './image-json.ts'

const LIMIT = 100

/** Lists the images that were built from a source. */
export function sourceRoutes(
  search: SourceSearch,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/sources',
      access: 'publicRead',
      query: { ...PAGE, from: 'once', checksum: 'once', ...HIT_FILTER },
      reads: 'question',
      async handle(ctx) {
        const wanted = wantedSourceOf(ctx)
        const filter = hitFilterOf(ctx)
        const limit = pageLimit(ctx, LIMIT)
        const before = cursorOf(ctx, cursors)
        const visible = pullablePatterns(ctx.state.caller)
        const page = await search.listImages(ask(ctx), wanted, filter, visible, before, limit)
        if (page.next !== undefined) {
          const { blobId, ordinal, manifestId } = page.next
          const cursor = cursors.format(blobId, ordinal, manifestId)
          const given = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...given, last: cursor, n: String(limit) })
        }
        ctx.body = {
          from: wanted.from?.repository ?? null,
          reference: wanted.from?.reference ?? null,
          checksum: wanted.checksum ?? null,
          images: page.hits.map(sourceHit),
          truncated: page.truncated,
        }
      },
    },
  ]
}

/** Throws REQUEST_INVALID unless the query has one of `from` and `checksum`, in a known form. */
function wantedSourceOf(ctx: RouteContext): WantedSource {
  const address = queryOnce(ctx, 'from') || undefined
  const digits = queryOnce(ctx, 'checksum') || undefined
  if ((address === undefined) === (digits === undefined)) {
    throw badRequest(
      'name one source: from, the address of its repository, or checksum, that of its archive',
    )
  }
  const from = address === undefined ? undefined : findWantedRepository(address)
  if (from !== undefined) return { from }
  const checksum = digits === undefined ? undefined : findWantedChecksum(digits)
  if (checksum !== undefined) return { checksum }
  throw badRequest(
    digits === undefined
      ? 'from must be the address of a source repository, such as https://github.com/mirage/mirage; find an archive by its checksum'
      : 'checksum must be like sha256=0f1e…, or of md5 or sha512, with all digits; find a commit by from=https://…#COMMIT',
  )
}

function cursorOf(ctx: RouteContext, cursors: PageCursors): SourceCursor | undefined {
  const [blobId, ordinal, manifestId] = cursors.readNumbers(ctx, 3) ?? []
  if (blobId === undefined || ordinal === undefined || manifestId === undefined) return undefined
  return { blobId, ordinal, manifestId }
}
