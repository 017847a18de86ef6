import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import {
  type Column,
  DataTable,
  Empty,
  Heading,
  type Mood,
  Section,
  ShortDigest,
  State,
  Time,
} from './elements.tsx'
import { type ImageItem, ImageTable } from './image-table.tsx'
import { buildPath, kernelPath, repositoryPath } from './paths.ts'
import { counted, shortDigest } from './texts.ts'

/** A build from the inputs. */
export type InputBuild = {
  readonly repository: Repository
  readonly id: string
  readonly result: string
  /** Null for a caller who may not see it. */
  readonly builder: string | null
  readonly platform: string | null
  readonly kernel: { readonly digest: Digest } | null
  readonly recordedAt: Date
}

/** A kernel that somebody says was made from the inputs. */
export type OutputItem = {
  readonly kernel: Digest
  /** True when it is in a repository of the caller. */
  readonly own: boolean
  readonly images: readonly ImageItem[]
}

export type InputsView = {
  readonly inputId: string
  /** Null when that is not known. */
  readonly reproducible: boolean | null
  readonly outputs: readonly OutputItem[]
  readonly otherInputs: readonly ImageItem[]
  /** Newest first. */
  readonly builds: readonly InputBuild[]
  /** True when there are more images or builds than were read. */
  readonly more: boolean
  /** The path of all of this in the API. */
  readonly json: string
}

/** Outputs, images of each, other images, and builds that the page shows. */
const OUTPUTS_MAX = 6
const IMAGES_MAX = 4
const OTHERS_MAX = 4
const BUILDS_MAX = 10
/** Builders in the matrix. */
const BUILDERS_MAX = 20

/** The page of inputs: who built them, and whether the same came out. */
export function InputsPage(view: InputsView) {
  const { inputId, outputs, otherInputs, builds, json } = view
  return (
    <>
      <Heading note={<Verdict reproducible={view.reproducible} outputs={outputs.length} />}>
        Inputs {shortDigest(inputId)}
      </Heading>
      <p>
        The id of the inputs: <code>{inputId}</code>
      </p>
      {builds.length === 0 ? null : <Matrix outputs={outputs} builds={builds} />}
      <Section id="outputs" title="Kernels">
        {outputs.length === 0 ? (
          <Empty>No image that you may see was made from these inputs.</Empty>
        ) : (
          outputs.slice(0, OUTPUTS_MAX).map((output) => <Output key={output.kernel} {...output} />)
        )}
      </Section>
      {otherInputs.length === 0 ? null : (
        <Section
          id="others"
          title="The same kernel from other inputs"
          note="What differs between the inputs does not change the kernel."
        >
          <ImageTable
            caption="Images with the same kernel and other inputs"
            images={otherInputs.slice(0, OTHERS_MAX)}
            showsRepository
          />
        </Section>
      )}
      <Section id="builds" title="Builds">
        {builds.length === 0 ? (
          <Empty>No build from these inputs is recorded that you may see.</Empty>
        ) : (
          <BuildTable builds={builds.slice(0, BUILDS_MAX)} />
        )}
      </Section>
      {isCut(view) ? (
        <p>
          There is more: <a href={json}>all of it, as JSON</a>
        </p>
      ) : null}
    </>
  )
}

function isCut({ outputs, otherInputs, builds, more }: InputsView): boolean {
  return (
    more ||
    outputs.length > OUTPUTS_MAX ||
    outputs.some(({ images }) => images.length > IMAGES_MAX) ||
    otherInputs.length > OTHERS_MAX ||
    builds.length > BUILDS_MAX
  )
}

function Verdict({ reproducible, outputs }: { reproducible: boolean | null; outputs: number }) {
  if (reproducible === true) {
    return (
      <>
        <State mood="good">reproduced</State>: your builds of these inputs made the same kernel.
      </>
    )
  }
  if (reproducible === false) {
    return (
      <>
        <State mood="bad">not reproduced</State>: your builds of these inputs made several kernels.
      </>
    )
  }
  if (outputs > 1) {
    return (
      <>
        <State mood="bad">{`${outputs} kernels`}</State> are said to be made from these inputs.
      </>
    )
  }
  if (outputs === 1) {
    return (
      <>
        <State mood="idle">one kernel</State> is said to be made from these inputs.
      </>
    )
  }
  return <>Nothing that you may see was made from these inputs.</>
}

function Output({ kernel, own, images }: OutputItem) {
  return (
    <>
      <h3>
        <a href={kernelPath(kernel)}>
          <ShortDigest digest={kernel} />
        </a>{' '}
        <span class="faint">
          {counted(images.length, 'image')}
          {own ? ', also yours' : ''}
        </span>
      </h3>
      <ImageTable
        caption={`Images with ${shortDigest(kernel)}`}
        images={images.slice(0, IMAGES_MAX)}
        showsRepository
      />
    </>
  )
}

type Row = { name: string; made: Map<string, number>; failed: number }

/** A table of builders and kernels: the number of builds in which a builder made a kernel from these inputs. */
function Matrix({
  outputs,
  builds,
}: {
  outputs: readonly OutputItem[]
  builds: readonly InputBuild[]
}) {
  const kernels = [
    ...new Set([
      ...outputs.map(({ kernel }) => kernel),
      ...builds.flatMap(({ kernel }) => kernel?.digest ?? []),
    ]),
  ].slice(0, OUTPUTS_MAX)
  const rows = new Map<string, Row>()
  for (const build of builds) {
    const name = builderName(build)
    const row = rows.get(name) ?? { name, made: new Map<string, number>(), failed: 0 }
    rows.set(name, row)
    const made = build.kernel?.digest
    if (made === undefined) row.failed += 1
    else row.made.set(made, (row.made.get(made) ?? 0) + 1)
  }
  const showsFailed = [...rows.values()].some(({ failed }) => failed > 0)
  const columns: Column[] = [
    'Builder',
    ...kernels.map((kernel) => shortDigest(kernel)),
    ...(showsFailed ? ['failed'] : []),
  ]
  return (
    <Section id="matrix" title="Who made what" note="Builds by their builder and their kernel.">
      <DataTable
        caption="Builders and kernels"
        columns={columns}
        rows={[...rows.values()].slice(0, BUILDERS_MAX).map(({ name, made, failed }) => ({
          key: name,
          cells: [
            name,
            ...kernels.map((kernel) => <Count count={made.get(kernel) ?? 0} mood="good" />),
            ...(showsFailed ? [<Count count={failed} mood="bad" />] : []),
          ],
        }))}
      />
    </Section>
  )
}

/** `ci on debian-12`; in the repository for a caller who may not see the builder. */
function builderName({ builder, platform, repository }: InputBuild): string {
  const who = builder ?? `in ${repository}`
  return platform === null ? who : `${who} on ${platform}`
}

function Count({ count, mood }: { count: number; mood: Mood }) {
  if (count === 0) return <span class="faint">none</span>
  return <State mood={mood}>{counted(count, 'build')}</State>
}

function BuildTable({ builds }: { builds: readonly InputBuild[] }) {
  const showsBuilder = builds.some(({ builder }) => builder !== null)
  return (
    <DataTable
      caption="Builds from these inputs"
      columns={[
        'Build',
        'Repository',
        'Result',
        'Platform',
        ...(showsBuilder ? ['By'] : []),
        'Kernel',
        'Recorded',
      ]}
      rows={builds.map((build) => ({
        key: `${build.repository} ${build.id}`,
        cells: [
          <a href={buildPath(build.repository, build.id)}>
            <code>{build.id.slice(0, ID_SHOWN)}</code>
          </a>,
          <a href={repositoryPath(build.repository)}>{build.repository}</a>,
          <State mood={build.result === 'succeeded' ? 'good' : 'bad'}>{build.result}</State>,
          build.platform ?? '',
          ...(showsBuilder ? [build.builder ?? ''] : []),
          build.kernel === null ? (
            <span class="faint">none</span>
          ) : (
            <a href={kernelPath(build.kernel.digest)}>
              <ShortDigest digest={build.kernel.digest} />
            </a>
          ),
          <Time at={build.recordedAt} />,
        ],
      }))}
    />
  )
}

/** Characters of a build's id in a table. */
const ID_SHOWN = 8
