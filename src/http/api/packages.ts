import { pullablePatterns } from '../../auth/access.ts'
import { invalidQuery } from '../../oci/errors.ts'
import type {
  PackageCursor,
  PackageQuery,
  PackageSearch,
} from '../../registry/images/package-search.ts'
import { ECOSYSTEMS, type Ecosystem } from '../../unikernel/versions/orders.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { HIT_FILTER, hitFilterOf } from './hit-query.ts'
import { packageHit } from './image-json.ts'

const LIMIT = 100

/** Lists the images that contain a package. */
export function packageRoutes(
  search: PackageSearch,
  ask: AskQuestion,
  cursors: PageCursors,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/packages/:ecosystem/:name',
      access: 'publicRead',
      query: { ...PAGE, version: 'once', ...HIT_FILTER },
      reads: 'question',
      async handle(ctx) {
        const query = packageQueryOf(ctx)
        const { ecosystem, name, version } = query
        const limit = pageLimit(ctx, LIMIT)
        const visible = pullablePatterns(ctx.state.caller)
        const before = readPackageCursor(ctx, cursors)
        const page = await search.listImages(ask(ctx), query, visible, before, limit)
        if (page.next !== undefined) {
          const cursor = formatPackageCursor(cursors, page.next)
          const given = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...given, last: cursor, n: String(limit) })
        }
        ctx.body = {
          ecosystem,
          name,
          version: version ?? null,
          images: page.hits.map(packageHit),
          truncated: page.truncated,
        }
      },
    },
  ]
}

/** Reads what is searched: the package of the path, and the filters of the query. Throws QUERY_INVALID and REQUEST_INVALID. */
export function packageQueryOf(ctx: RouteContext): PackageQuery {
  return {
    ecosystem: parseEcosystem(param(ctx, 'ecosystem')),
    name: parsePackageName(param(ctx, 'name')),
    version: queryOnce(ctx, 'version') || undefined,
    ...hitFilterOf(ctx),
  }
}

/** Postgres takes no NUL in text, and no package name has one. */
function parsePackageName(name: string): string {
  if (name.includes('\0')) throw invalidQuery('a package name must not contain NUL')
  return name
}

/** Parses the name of an ecosystem. Throws QUERY_INVALID. */
export function parseEcosystem(text: string): Ecosystem {
  const found = ECOSYSTEMS.find((one) => one === text)
  if (found !== undefined) return found
  throw invalidQuery(
    `the ecosystem must be one of ${ECOSYSTEMS.join(', ')}, such as /api/v1/packages/opam/mirage`,
  )
}

/** Returns the cursor of the next page. */
export function formatPackageCursor(
  cursors: PageCursors,
  { blobId, manifestId, packageId }: PackageCursor,
): string {
  return cursors.format(blobId, manifestId, packageId)
}

/** The cursor that the previous page gave; undefined for the first page. Throws QUERY_INVALID. */
export function readPackageCursor(
  ctx: RouteContext,
  cursors: PageCursors,
): PackageCursor | undefined {
  const [blobId, manifestId, packageId] = cursors.readNumbers(ctx, 3) ?? []
  if (blobId === undefined || manifestId === undefined || packageId === undefined) return undefined
  return { blobId, manifestId, packageId }
}
