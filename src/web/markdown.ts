import MarkdownIt from 'markdown-it'

/**
 * Tenants write these files. HTML in them is text, links with other schemes than these are text, and images are not loaded:
 * with them, another server would learn who reads the page.
 */
const MARKDOWN = new MarkdownIt({ html: false, linkify: false })
MARKDOWN.validateLink = (url) => /^(https?:\/\/|mailto:|#)/i.test(url)
MARKDOWN.disable('image')

/** Headings begin below those of the page. */
const HEADING_OFFSET = 2
const HEADING_MAX = 6

MARKDOWN.core.ruler.push('headings below those of the page', ({ tokens }) => {
  for (const token of tokens) {
    const [, level] = /^h([1-6])$/.exec(token.tag) ?? []
    if (level !== undefined) token.tag = `h${Math.min(Number(level) + HEADING_OFFSET, HEADING_MAX)}`
    for (const child of token.children ?? []) {
      if (child.type === 'link_open') child.attrSet('rel', 'nofollow noopener')
    }
  }
})

/** Renders a file of a tenant as HTML. markdown-it escapes the text. */
export function renderMarkdown(markdown: string): string {
  return MARKDOWN.render(markdown)
}
