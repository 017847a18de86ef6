/** The start of a README, and the path of the file. */
export type ReadmeText = {
  /** What `renderMarkdown` made of it. */
  readonly html: string
  readonly path: string
  /** False when the file has more than is shown. */
  readonly isWhole: boolean
}

/** A README of a tenant, which renders as text with links and nothing else. */
export function Readme({ readme: { html, path, isWhole } }: { readme: ReadmeText }) {
  return (
    <>
      {/* The only HTML that no template makes. */}
      <article class="readme" dangerouslySetInnerHTML={{ __html: html }} />
      <p>
        <a href={path}>{isWhole ? 'The file as it is' : 'The rest of the file'}</a>
      </p>
    </>
  )
}
