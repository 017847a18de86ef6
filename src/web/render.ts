import type { VNode } from 'preact'
import { render } from 'preact-render-to-string'

/** Renders a page to HTML. Text of tenants is escaped: only elements of templates become elements. */
export function renderHtml(page: VNode): string {
  return `<!DOCTYPE html>\n${render(page)}\n`
}
