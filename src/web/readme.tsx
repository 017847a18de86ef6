import MarkdownIt from 'markdown-it'

/**
 * Tenants write these files. HTML in them is text, links with other schemes than these are text, and images are not loaded:
 * they would tell another server who reads the page.
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

/** The start of a README, and the path of the file. */
export type ReadmeText = {
  readonly markdown: string
  readonly path: string
  /** False when the file has more than is shown. */
  readonly isWhole: boolean
}

/** A README of a tenant, which renders as text with links and nothing else. */
export function Readme({ readme: { markdown, path, isWhole } }: { readme: ReadmeText }) {
  return (
    <>
      <ReadmeMarkdown markdown={markdown} />
      <p>
        <a href={path}>{isWhole ? 'The file as it is' : 'The rest of the file'}</a>
      </p>
    </>
  )
}

function ReadmeMarkdown({ markdown }: { markdown: string }) {
  // The only HTML that no template makes. markdown-it escapes the text of the tenant.
  return <article class="readme" dangerouslySetInnerHTML={{ __html: MARKDOWN.render(markdown) }} />
}
