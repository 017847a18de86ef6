import { listablePatterns } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { IMAGE_INDEX } from '../../oci/media-type.ts'
import type { Listings, Referrer } from '../../registry/listings.ts'
import {
  NAMES_WITHOUT_N_MAX,
  type PageCursors,
  pageLimit,
  setNextLink,
  setNextNamesLink,
} from '../pages.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, repositoryOf, viewOf } from '../route.ts'

const REFERRERS_PAGE_MAX = 500

/** The routes of "Listing Tags" and "Listing Referrers" in the distribution spec, and Docker's catalog. */
export function listingRoutes(listings: Listings, ask: AskQuestion, cursors: PageCursors): Route[] {
  return [
    {
      spec: ['end-8a', 'end-8b'],
      method: 'GET',
      path: '/v2/*repository/tags/list',
      access: 'pull',
      query: 'any',
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, NAMES_WITHOUT_N_MAX)
        const last = queryOnce(ctx, 'last') ?? ''
        const { items, more } = await listings.tags(ask(ctx), viewOf(ctx), { last, limit })
        if (more) setNextNamesLink(ctx, items.at(-1), limit)
        ctx.body = { name: repositoryOf(ctx), tags: items }
      },
    },
    {
      spec: ['end-12a', 'end-12b'],
      method: 'GET',
      path: '/v2/*repository/referrers/:digest',
      access: 'pull',
      query: 'any',
      reads: 'question',
      async handle(ctx) {
        const subject = parseDigest(param(ctx, 'digest'))
        const artifactType = queryOnce(ctx, 'artifactType') || undefined
        const limit = Math.min(pageLimit(ctx, REFERRERS_PAGE_MAX), REFERRERS_PAGE_MAX)
        const after = cursors.read(ctx) ?? 0
        const page = await listings.referrers(
          ask(ctx),
          viewOf(ctx),
          subject,
          artifactType,
          after,
          limit,
        )
        const { items, more } = page
        if (artifactType !== undefined) ctx.set('OCI-Filters-Applied', 'artifactType')
        const last = items.at(-1)
        if (more && last !== undefined) {
          setNextLink(ctx, { artifactType, last: cursors.format(last.id), n: String(limit) })
        }
        const manifests = items.map(descriptorText).join(',')
        ctx.body = `{"schemaVersion":2,"mediaType":"${IMAGE_INDEX}","manifests":[${manifests}]}`
        ctx.set('Content-Type', IMAGE_INDEX)
      },
    },
    {
      method: 'GET',
      path: '/v2/_catalog',
      access: 'pull',
      query: 'any',
      reads: 'question',
      scope: 'registry:catalog:*',
      async handle(ctx) {
        const limit = pageLimit(ctx, NAMES_WITHOUT_N_MAX)
        const last = queryOnce(ctx, 'last') ?? ''
        const page = await listings.repositories(ask(ctx), listablePatterns(ctx.state.caller), {
          last,
          limit,
        })
        if (page.more) setNextNamesLink(ctx, page.items.at(-1), limit)
        ctx.body = { repositories: page.items }
      },
    },
  ]
}

/** Formats a descriptor as JSON, around the stored text of its annotations. */
function descriptorText({ mediaType, digest, size, artifactType, annotations }: Referrer): string {
  const descriptor = { mediaType, digest, size, artifactType: artifactType ?? undefined }
  const text = JSON.stringify(descriptor)
  return annotations === null ? text : `${text.slice(0, -1)},"annotations":${annotations}}`
}
