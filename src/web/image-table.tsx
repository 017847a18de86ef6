import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DataTable, ImageLink, TagLinks, Time } from './elements.tsx'
import { repositoryPath } from './paths.ts'

/** An image in a list. */
export type ImageItem = {
  readonly repository: Repository
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly target: string
  readonly architecture: string | null
  readonly synopsis: string | null
  readonly pushedAt: Date
  /** Null for a caller who may not see it. */
  readonly builder: string | null
}

/** A table of images, newest first. */
export function ImageTable({
  caption,
  images,
  showsRepository = false,
}: {
  caption: string
  images: readonly ImageItem[]
  showsRepository?: boolean
}) {
  const showsBuilder = images.some(({ builder }) => builder !== null)
  return (
    <DataTable
      caption={caption}
      columns={[
        ...(showsRepository ? ['Repository'] : []),
        'Image',
        'Tags',
        'Target',
        'Pushed',
        ...(showsBuilder ? ['By'] : []),
      ]}
      rows={images.map((image) => ({
        key: `${image.repository} ${image.digest}`,
        cells: [
          ...(showsRepository ? [<RepositoryLink image={image} />] : []),
          <ImageLink repository={image.repository} digest={image.digest} />,
          <TagLinks repository={image.repository} tags={image.tags} />,
          targetText(image),
          <Time at={image.pushedAt} />,
          ...(showsBuilder ? [image.builder ?? ''] : []),
        ],
      }))}
    />
  )
}

function RepositoryLink({ image: { repository, synopsis } }: { image: ImageItem }) {
  return (
    <>
      <a href={repositoryPath(repository)}>{repository}</a>
      {synopsis === null ? null : <div class="faint">{synopsis}</div>}
    </>
  )
}

/** `hvt, x86_64` */
export function targetText({
  target,
  architecture,
}: {
  target: string
  architecture: string | null
}): string {
  return architecture === null ? target : `${target}, ${architecture}`
}
