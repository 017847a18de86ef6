import { DataTable, Empty, Heading, Section } from './elements.tsx'
import { packageVersionsPath } from './paths.ts'

/** A page that the search leads to. */
export type SearchHit = {
  readonly kind: string
  readonly name: string
  readonly href: string
  /** The repository of an image, a tag, a build or a deployment. */
  readonly where: string | null
}

/** The page of a search: what the text may mean, or what can be searched. */
export function SearchPage({ text, hits }: { text: string; hits: readonly SearchHit[] }) {
  return (
    <>
      <Heading>Search</Heading>
      {text === '' ? null : (
        <Section id="found" title={`Found for ${text}`}>
          {hits.length === 0 ? (
            <Empty>Nothing that you may see is called so.</Empty>
          ) : (
            <DataTable
              caption="What was found"
              columns={['Name', 'What', 'Repository']}
              rows={hits.map(({ kind, name, href, where }) => ({
                key: href,
                cells: [<a href={href}>{name}</a>, kind, where ?? ''],
              }))}
            />
          )}
        </Section>
      )}
      {hits.length > 0 ? null : <Help />}
    </>
  )
}

function Help() {
  return (
    <Section id="help" title="What can be searched">
      <ul>
        <li>a repository, or the beginning of its name</li>
        <li>
          a tag, such as <code>live</code> or <code>hello/key:live</code>
        </li>
        <li>
          a digest of an image or of a kernel, or the first 8 digits of it or more: the output of{' '}
          <code>sha256sum unikernel</code> says which image a file is from
        </li>
        <li>the id of inputs, of a build or of a deployment</li>
        <li>
          a package of opam, also with versions:{' '}
          <a href={packageVersionsPath('opam', 'mirage-crypto', '<2.1')}>
            <code>mirage-crypto&lt;2.1</code>
          </a>
          ; other packages after their ecosystem: <code>deb gcc</code>
        </li>
        <li>a host, for those who may manage it</li>
      </ul>
    </Section>
  )
}
