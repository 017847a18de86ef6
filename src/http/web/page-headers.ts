import type { RouteContext } from '../route.ts'

/**
 * The policy of pages: style, script and forms of this registry, and nothing inline. Texts of tenants in a page can therefore
 * neither run, nor load anything, nor send a form elsewhere.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "style-src 'self'",
  "script-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

/**
 * Replaces the policies of responses that a browser must not run. The other headers of every response stay. Without any referrer, a
 * browser would send the forms of these pages with `Origin: null`, as those of another site.
 */
export function setPageHeaders(ctx: RouteContext): void {
  ctx.set({
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'Referrer-Policy': 'same-origin',
  })
}
