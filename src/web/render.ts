import type { VNode } from 'preact'
import { render } from 'preact-render-to-string'
import { visibleHtml } from '../oci/hidden-characters.ts'

/** Renders a page to HTML. Text of tenants is escaped: only elements of templates become elements. Its hidden characters are visible. */
export function renderHtml(page: VNode): string {
  return `<!DOCTYPE html>\n${visibleHtml(render(page))}\n`
}
