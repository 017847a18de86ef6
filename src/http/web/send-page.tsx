import type { VNode } from 'preact'
import { administersAny } from '../../auth/access.ts'
import { digestOf } from '../../oci/digest.ts'
import { Layout } from '../../web/layout.tsx'
import { renderHtml } from '../../web/render.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import type { RouteContext } from '../route.ts'
import { ASSETS } from './assets.ts'
import { setPageHeaders } from './page-headers.ts'

/** The fields that every page has. People and browsers add parameters to a path, so a page ignores those that it does not know. */
export const PAGE_ROUTE = { page: true, query: 'any' } as const

/** A page as a handler makes it. */
export type Page = {
  /** The heading of the browser's window. */
  readonly title: string
  /** The path of the same facts in the API. */
  readonly json?: string
  /** The path of the next page of a list. */
  readonly next?: string | undefined
  /** The text in the search field. */
  readonly search?: string
  readonly status?: number
  readonly content: VNode
}

/**
 * Renders and sends a page. Its ETag is the digest of its bytes: a page that did not change is 304, and a page that changed is
 * never taken for the old one, whatever changed it.
 */
export function sendPage(ctx: RouteContext, page: Page): void {
  const { title, json, next, search, status = 200, content } = page
  const { caller } = ctx.state
  const isAnonymous = caller === undefined || caller.kind === 'anonymous'
  const frame = {
    title,
    registry: ctx.host,
    path: ctx.url,
    caller: isAnonymous
      ? undefined
      : {
          name: caller.actor,
          hasSession: caller.scheme === 'session',
          mayHaveWebhooks: administersAny(caller),
        },
    search,
    assets: ASSETS,
    json,
  }
  const html = renderHtml(<Layout frame={frame}>{content}</Layout>)
  setPageHeaders(ctx)
  ctx.vary('Cookie, Authorization')
  ctx.set({
    // No browser and no proxy stores a page that depends on a login.
    'Cache-Control': isAnonymous ? 'private, no-cache' : 'private, no-store',
  })
  const links = [
    ...(json === undefined ? [] : [`<${json}>; rel="alternate"; type="application/json"`]),
    ...(next === undefined ? [] : [`<${next}>; rel="next"`]),
  ]
  if (links.length > 0) ctx.set('Link', links.join(', '))
  const digest = digestOf(Buffer.from(html))
  if (status === 200) {
    ctx.set('ETag', entityTag(digest))
    if (isNotModified(ctx.headers['if-none-match'], digest)) {
      ctx.status = 304
      return
    }
  }
  ctx.status = status
  ctx.body = html
  ctx.set('Content-Type', 'text/html; charset=utf-8')
}
