import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DataTable, Empty, Heading, ImageLink, NextPage, Time } from './elements.tsx'
import { repositoryPath, tagPath } from './paths.ts'

export type TagItem = {
  readonly tag: Tag
  readonly digest: Digest
  readonly movedAt: string
  readonly target: string | null
}

/** The page of the tags of a repository, in the order of their names. */
export function TagsPage({
  repository,
  tags,
  next,
}: {
  repository: Repository
  tags: readonly TagItem[]
  next: string | undefined
}) {
  return (
    <>
      <Heading trail={[{ href: repositoryPath(repository), name: repository }]}>Tags</Heading>
      {tags.length === 0 ? (
        <Empty>No tag is here. A push of an image to a tag makes one.</Empty>
      ) : (
        <DataTable
          caption={`Tags of ${repository}`}
          filter
          columns={['Tag', 'Image', 'Target', 'Set']}
          rows={tags.map(({ tag, digest, movedAt, target }) => ({
            key: tag,
            cells: [
              <a href={tagPath(repository, tag)}>{tag}</a>,
              <ImageLink repository={repository} digest={digest} />,
              target ?? <span class="faint">several or none</span>,
              <Time at={movedAt} />,
            ],
          }))}
        />
      )}
      <NextPage href={next} />
    </>
  )
}
