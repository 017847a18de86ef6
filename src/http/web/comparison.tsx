import { badRequest } from '../../oci/errors.ts'
import { isTag } from '../../oci/reference.ts'
import { ComparisonPage } from '../../web/comparison.tsx'
import { apiPath } from '../../web/paths.ts'
import { findImageReference, selectorOf } from '../api/kernel-query.ts'
import { param, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const SEPARATOR = '...'
const DIGEST_LIKE = /^sha(?:256|512):[0-9a-f]+$/

/** The page that compares two images. */
export function comparisonPages({ images, ask }: Pick<PageDeps, 'images' | 'ask'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/r/*repository/-/compare/:pair',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const [repository, view, db] = [repositoryOf(ctx), viewOf(ctx), ask(ctx)]
        const [before, after] = pairOf(ctx)
        const selector = selectorOf(ctx)
        const detailsOf = async (name: string) =>
          images.details(db, view, await findImageReference(view, images, name, db), selector)
        const [from, to] = await Promise.all([detailsOf(before), detailsOf(after)])
        const outline = await images.outlineComparison(db, from, to)
        const json = apiPath(repository, `images/${from.digest}/compare/${to.digest}`)
        sendPage(ctx, {
          title: `${repository}, ${before} compared with ${after}`,
          json,
          content: <ComparisonPage view={{ repository, from, to, outline, json }} />,
        })
      },
    },
  ]
}

/** Reads `A...B`, each a tag, a digest or a shortened digest. A tag may itself have three dots. Throws REQUEST_INVALID. */
function pairOf(ctx: RouteContext): readonly [string, string] {
  const text = param(ctx, 'pair')
  const pairs: (readonly [string, string])[] = []
  for (let at = text.indexOf(SEPARATOR); at >= 0; at = text.indexOf(SEPARATOR, at + 1)) {
    const pair = [text.slice(0, at), text.slice(at + SEPARATOR.length)] as const
    if (pair.every((name) => isTag(name) || DIGEST_LIKE.test(name))) pairs.push(pair)
  }
  const [first, ...others] = pairs
  if (first === undefined) {
    throw badRequest('a comparison is A...B, where A and B are each a tag or a digest')
  }
  if (others.length > 0) {
    throw badRequest('the dots of these tags can be read in several ways: write digests')
  }
  return first
}
