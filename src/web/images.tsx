import type { Repository } from '../oci/reference.ts'
import { TARGETS } from '../unikernel/targets.ts'
import { Empty, Heading, NextPage } from './elements.tsx'
import { type ImageItem, ImageTable } from './image-table.tsx'
import { imagesPath, repositoryPath } from './paths.ts'

/** The query that selects images of a list. */
export type ImageListFilter = {
  readonly tagged: boolean | undefined
  readonly target: string | undefined
}

/** The page of the images of a repository, newest first. */
export function ImagesPage({
  repository,
  images,
  filter,
  next,
}: {
  repository: Repository
  images: readonly ImageItem[]
  filter: ImageListFilter
  next: string | undefined
}) {
  const isFiltered = filter.tagged !== undefined || filter.target !== undefined
  return (
    <>
      <Heading trail={[{ href: repositoryPath(repository), name: repository }]}>Images</Heading>
      <Choice
        name="Tags"
        choices={[
          ['all', filterPath(repository, { ...filter, tagged: undefined })],
          ['with a tag', filterPath(repository, { ...filter, tagged: true })],
          ['without a tag', filterPath(repository, { ...filter, tagged: false })],
        ]}
        present={filterPath(repository, filter)}
      />
      <Choice
        name="Target"
        choices={[undefined, ...TARGETS].map((target) => [
          target ?? 'all',
          filterPath(repository, { ...filter, target }),
        ])}
        present={filterPath(repository, filter)}
      />
      {images.length === 0 ? (
        <Empty>
          {isFiltered
            ? 'No image on this page is of this kind.'
            : 'This repository has no unikernel. A push of a Solo5 kernel makes one.'}
        </Empty>
      ) : (
        <ImageTable caption={`Images of ${repository}`} images={images} />
      )}
      <NextPage href={next} />
    </>
  )
}

function filterPath(repository: Repository, { tagged, target }: ImageListFilter): string {
  const query = new URLSearchParams({
    ...(tagged === undefined ? {} : { tagged: String(tagged) }),
    ...(target === undefined ? {} : { target }),
  })
  return query.size === 0 ? imagesPath(repository) : `${imagesPath(repository)}?${query}`
}

function Choice({
  name,
  choices,
  present,
}: {
  name: string
  choices: readonly (readonly [name: string, href: string])[]
  present: string
}) {
  return (
    <nav aria-label={name} class="choice">
      <span class="faint">{name}:</span>
      <ul>
        {choices.map(([choice, href]) => (
          <li key={choice}>
            <a href={href} aria-current={href === present ? 'true' : undefined}>
              {choice}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  )
}
