import type { Repository } from '../oci/reference.ts'
import { Empty, Heading, Section, State } from './elements.tsx'
import { type FollowerItem, FollowerTable } from './followers.tsx'
import { type ImageItem, ImageTable } from './image-table.tsx'
import { buildsPath, imagesPath, tagsPath } from './paths.ts'
import { PullLines } from './pull-lines.tsx'
import { Readme, type ReadmeText } from './readme.tsx'

export type RepositoryView = {
  /** The address of the registry. */
  readonly base: string
  readonly repository: Repository
  readonly visibility: 'public' | 'private'
  readonly images: readonly ImageItem[]
  /** True when there are older images. */
  readonly more: boolean
  readonly followers: readonly FollowerItem[]
  /** Undefined: none of the newest images has one. */
  readonly readme: ReadmeText | undefined
}

/** The page of a repository: what is live, who runs it, what was pushed last, and its README. */
export function RepositoryPage(view: RepositoryView) {
  const { base, repository, visibility, images, more, followers, readme } = view
  const [newest] = images
  const synopsis = images.find((image) => image.synopsis !== null)?.synopsis ?? undefined
  return (
    <>
      <Heading trail={[{ href: '/repositories', name: 'Repositories' }]} note={synopsis}>
        {repository}
      </Heading>
      <p>
        <span class="faint">{visibility}</span> · <a href={tagsPath(repository)}>Tags</a> ·{' '}
        <a href={imagesPath(repository)}>Images</a> · <a href={buildsPath(repository)}>Builds</a>
      </p>
      <Section id="runs" title="Where it runs">
        {followers.length === 0 ? (
          <Empty>
            No host that reports follows a tag of this repository. A host with the agent does: its
            unit names the repository and the tag.
          </Empty>
        ) : (
          <FollowerTable repository={repository} followers={followers} />
        )}
      </Section>
      <Section id="images" title="Latest images">
        {images.length === 0 ? (
          <Empty>This repository has no unikernel.</Empty>
        ) : (
          <ImageTable caption="Latest images" images={images} />
        )}
        {more ? (
          <p>
            <a href={imagesPath(repository)}>All images</a>
          </p>
        ) : null}
      </Section>
      {newest === undefined ? null : (
        <Section id="pull" title="Pull it">
          <PullLines
            base={base}
            repository={repository}
            reference={newest.tags[0] ?? newest.digest}
          />
        </Section>
      )}
      {readme === undefined ? null : (
        <Section id="readme" title="README">
          <Readme readme={readme} />
        </Section>
      )}
      {newest === undefined ? (
        <p>
          <State mood="idle">empty</State>
        </p>
      ) : null}
    </>
  )
}
