import type { Repository } from '../oci/reference.ts'
import { AttentionSection, type AttentionView } from './attention.tsx'
import { Empty, Heading, Lines, Section } from './elements.tsx'
import { type ImageItem, ImageTable } from './image-table.tsx'
import { repositoryPath } from './paths.ts'

export type Home = {
  /** The host and the port of the registry. */
  readonly registry: string
  /** The newest images that the caller may see. */
  readonly images: readonly ImageItem[]
  readonly repositories: readonly Repository[]
  /** True when there are more repositories. */
  readonly more: boolean
  readonly isLoggedIn: boolean
  /** A build that can be pushed from the folder of the registry. Undefined where it was installed without. */
  readonly sampleBuild: string | undefined
  readonly attention: AttentionView
}

/** The start page: what is here, and what changed lately. An empty registry explains the first push. */
export function HomePage(home: Home) {
  const { registry, images, repositories, more, attention } = home
  if (repositories.length === 0) return <FirstPush {...home} />
  return (
    <>
      <Heading note="Unikernels, how they were built, and where they run.">{registry}</Heading>
      <AttentionSection attention={attention} />
      <Section id="latest" title="Latest images">
        {images.length === 0 ? (
          <Empty>No repository that you may see has a unikernel yet.</Empty>
        ) : (
          <ImageTable caption="Latest images" images={images} showsRepository />
        )}
      </Section>
      <Section id="repositories" title="Repositories">
        <ul class="names">
          {repositories.map((repository) => (
            <li key={repository}>
              <a href={repositoryPath(repository)}>{repository}</a>
            </li>
          ))}
        </ul>
        {more ? (
          <p>
            <a href="/repositories">All repositories</a>
          </p>
        ) : null}
      </Section>
    </>
  )
}

function FirstPush({
  registry,
  isLoggedIn,
  sampleBuild,
}: Pick<Home, 'registry' | 'isLoggedIn' | 'sampleBuild'>) {
  const place =
    sampleBuild === undefined
      ? "On the machine of the registry, with its settings, in orb's output folder."
      : 'On the machine of the registry, in the folder in which it was started.'
  return (
    <>
      <Heading note="An OCI registry for unikernels. There is nothing here that you may see yet.">
        {registry}
      </Heading>
      {isLoggedIn ? null : (
        <p>
          If you expect repositories here, <a href="/login">log in</a>: private ones are shown only
          to credentials that may pull from them.
        </p>
      )}
      <Section
        id="push"
        title="Push the first unikernel"
        note={`${place} The token is valid for 15 minutes, and for this repository only.`}
      >
        <Lines label="Make a token, and push the output folder of a build by orb">
          {[
            ...(sampleBuild === undefined ? [] : ['export PATH="$PWD/bin:$PATH"']),
            'export ROOKERY_TOKEN=$(rookery token mint --repository hello/key --action pull --action push)',
            `rookery push ${sampleBuild ?? '.'} ${registry}/hello/key:live`,
          ].join('\n')}
        </Lines>
        <p>
          <code>oras push</code> and <code>curl</code> work with the same token.
        </p>
      </Section>
      <Section id="then" title="What you will see here">
        <ul>
          <li>the repository, its tags, and what each tag pointed to before</li>
          <li>
            what is in the unikernel: its target, devices and packages, and who built the same bytes
          </li>
          <li>the hosts that run it, and how each deployment went</li>
        </ul>
      </Section>
    </>
  )
}
