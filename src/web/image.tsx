import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { ImageOutline } from '../unikernel/documents/outline.ts'
import { BuildResultState, type BuildResultWord } from './build-words.tsx'
import {
  Bytes,
  DataTable,
  Empty,
  Facts,
  Heading,
  Lines,
  Section,
  ShortDigest,
  TagLinks,
  Time,
} from './elements.tsx'
import { HostPackageSection, PackageSection } from './image-packages.tsx'
import {
  apiPath,
  buildPath,
  comparisonPath,
  graphPath,
  imagesPath,
  inputsPath,
  kernelPath,
  repositoryPath,
  sizePath,
} from './paths.ts'
import { PullLines } from './pull-lines.tsx'
import { Readme, type ReadmeText } from './readme.tsx'
import { shortDigest } from './texts.ts'

export type ImageView = {
  /** The address of the registry. */
  readonly base: string
  readonly repository: Repository
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly pushedAt: Date
  /** Null for a caller who may not see it. */
  readonly pushedBy: string | null
  readonly container: Digest | null
  readonly containerProblem: string | null
  readonly outline: ImageOutline
  /** The image before with another kernel. */
  readonly previous: Digest | null
  readonly referrers: readonly {
    readonly digest: Digest
    readonly artifactType: string | null
    readonly pushedAt: string
  }[]
  readonly moreReferrers: boolean
  readonly builds: readonly {
    readonly id: string
    readonly platform: string | null
    readonly result: BuildResultWord
    readonly recordedAt: string
    readonly builder: string | null
  }[]
  readonly readme: ReadmeText | undefined
}

/** The layers that people read, which the API answers as text. */
const TEXTS = ['console', 'script', 'readme']

/** The page of an image: what is in it, how to run and to pull it, and what refers to it. */
export function ImagePage(view: ImageView) {
  const { base, repository, digest, outline, previous, readme } = view
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: imagesPath(repository), name: 'Images' },
        ]}
        note={outline.synopsis ?? undefined}
      >
        {shortDigest(digest)}
      </Heading>
      <ImageFacts view={view} />
      <ul class="links">
        {previous === null ? null : (
          <li>
            <a href={comparisonPath(repository, previous, digest)}>
              Changes since the previous image
            </a>
          </li>
        )}
        <li>
          <a href={graphPath(repository, digest)}>Why a package is in it</a>
        </li>
        <li>
          <a href={sizePath(repository, digest)}>Sizes of its parts</a>
        </li>
      </ul>
      <div class="columns">
        <Section id="run" title="Run it">
          {outline.run === null ? (
            <Empty>No tender of Solo5 runs a kernel for {outline.target}.</Empty>
          ) : (
            <>
              <Lines label="With Solo5">{outline.run.solo5}</Lines>
              <Lines label="With albatross">{outline.run.albatross}</Lines>
            </>
          )}
        </Section>
        <Section id="pull" title="Pull it">
          <PullLines base={base} repository={repository} reference={digest} />
        </Section>
      </div>
      <Files view={view} />
      <Builds view={view} />
      <Referrers view={view} />
      {readme === undefined ? null : (
        <Section id="readme" title="README">
          <Readme readme={readme} />
        </Section>
      )}
      <div class="columns">
        <PackageSection repository={repository} digest={digest} packages={outline.opam} />
        <HostPackageSection
          repository={repository}
          digest={digest}
          packages={outline.hostPackages}
        />
      </div>
    </>
  )
}

function ImageFacts({ view }: { view: ImageView }) {
  const { repository, digest, tags, pushedAt, pushedBy, container, containerProblem } = view
  const { kernel, target, abiVersion, architecture, devices, memory, inputId, host } = view.outline
  return (
    <Facts
      facts={[
        ['Digest', <code>{digest}</code>],
        ['Tags', <TagLinks repository={repository} tags={tags} />],
        ['Target', abiVersion === null ? target : `${target}, ABI ${abiVersion}`],
        ['Architecture', architecture ?? 'unknown'],
        ['Devices', deviceText(devices)],
        ['Memory', memory === null ? undefined : `${memory} MiB`],
        [
          'Kernel',
          <>
            <a href={kernelPath(kernel.digest)}>
              <ShortDigest digest={kernel.digest} />
            </a>
            , <Bytes count={kernel.size} />
          </>,
        ],
        [
          'Inputs',
          inputId === null ? (
            `unknown: without ${view.outline.missingInputs.join(', ')}`
          ) : (
            <a href={inputsPath(inputId)}>
              <code title={inputId}>{inputId.slice(0, 12)}</code>
            </a>
          ),
        ],
        [
          'Pushed',
          <>
            <Time at={pushedAt} />
            {pushedBy === null ? '' : ` by ${pushedBy}`}
          </>,
        ],
        ['Built on', host === null ? undefined : hostText(host)],
        [
          'From the container image',
          container === null ? undefined : (
            <>
              <ShortDigest digest={container} />
              {containerProblem === null ? '' : `: ${containerProblem}`}
            </>
          ),
        ],
      ]}
    />
  )
}

function deviceText(devices: ImageOutline['devices']): string {
  if (devices === null) return 'unknown'
  if (devices.length === 0) return 'none'
  return devices.map(({ kind, name }) => `${kind} ${name}`).join(', ')
}

function hostText({
  os,
  distribution,
  version,
  architecture,
}: NonNullable<ImageOutline['host']>): string {
  return [distribution ?? os, version, architecture].filter((word) => word !== undefined).join(' ')
}

function Files({ view: { repository, digest, outline } }: { view: ImageView }) {
  const { layers, layerCount } = outline
  return (
    <Section
      id="files"
      title="Files"
      note={layerCount > layers.length ? `The first ${layers.length} of ${layerCount}.` : undefined}
    >
      <DataTable
        caption="Files of the image"
        columns={['File', 'Title', { name: 'Size', kind: 'number' }, 'Digest']}
        rows={layers.map(({ role, title, size, digest: layer, problem }) => ({
          key: `${role} ${layer} ${title}`,
          cells: [
            role !== null && (role === 'kernel' || TEXTS.includes(role)) ? (
              <a href={apiPath(repository, `images/${digest}/${role}`)}>{role}</a>
            ) : (
              (role ?? 'other')
            ),
            problem === null ? (title ?? '') : `${title ?? ''} not parsed: ${problem}`,
            <Bytes count={size} />,
            <ShortDigest digest={layer} />,
          ],
        }))}
      />
    </Section>
  )
}

function Builds({ view: { repository, builds } }: { view: ImageView }) {
  if (builds.length === 0) return null
  const showsBuilder = builds.some(({ builder }) => builder !== null)
  return (
    <Section id="builds" title="Builds of this image">
      <DataTable
        caption="Builds of this image"
        columns={['Recorded', 'Result', 'Platform', ...(showsBuilder ? ['By'] : [])]}
        rows={builds.map(({ id, platform, result, recordedAt, builder }) => ({
          key: id,
          cells: [
            <a href={buildPath(repository, id)}>
              <Time at={recordedAt} />
            </a>,
            <BuildResultState result={result} />,
            platform ?? 'unknown',
            ...(showsBuilder ? [builder ?? ''] : []),
          ],
        }))}
      />
    </Section>
  )
}

function Referrers({
  view: { repository, digest, referrers, moreReferrers },
}: {
  view: ImageView
}) {
  return (
    <Section id="referrers" title="Referrers">
      {referrers.length === 0 ? (
        <Empty>Nothing refers to this image: no signature, no attestation, no further file.</Empty>
      ) : (
        <DataTable
          caption="Manifests that refer to this image"
          columns={['Type', 'Manifest', 'Pushed']}
          rows={referrers.map(({ digest: referrer, artifactType, pushedAt }) => ({
            key: referrer,
            cells: [
              artifactType ?? 'unknown',
              <a href={`/v2/${repository}/manifests/${referrer}`}>
                <code>{shortDigest(referrer)}</code>
              </a>,
              <Time at={pushedAt} />,
            ],
          }))}
        />
      )}
      {moreReferrers ? (
        <p>
          <a href={`/v2/${repository}/referrers/${digest}`}>All referrers as JSON</a>
        </p>
      ) : null}
    </Section>
  )
}
