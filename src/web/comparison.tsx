import type { ComponentChildren } from 'preact'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { Change, ChangeList, ComparisonOutline } from '../unikernel/compare/outline.ts'
import {
  Bytes,
  DataTable,
  Empty,
  Facts,
  Heading,
  ImageLink,
  type Mood,
  Section,
  State,
  TagLinks,
  Time,
} from './elements.tsx'
import { comparisonPath, imagesPath, kernelPath, packagePath, repositoryPath } from './paths.ts'
import { counted, shortDigest } from './texts.ts'

/** One of two images that are compared. */
export type ComparedSide = {
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly pushedAt: Date
}

export type ComparisonView = {
  readonly repository: Repository
  readonly from: ComparedSide
  readonly to: ComparedSide
  readonly outline: ComparisonOutline
  /** The path of all differences as JSON. */
  readonly json: string
}

type Verdict = ComparisonOutline['verdict']

const VERDICTS: Readonly<Record<Verdict, readonly [mood: Mood, word: string, meaning: string]>> = {
  'same-image': ['idle', 'same image', 'Both are one image.'],
  reproduced: ['good', 'reproduced', 'The same inputs made the same kernel.'],
  'not-reproducible': ['bad', 'diverged', 'The same inputs made another kernel.'],
  'same-output': ['good', 'same kernel', 'Other inputs made the same kernel.'],
  different: ['idle', 'different', 'Other inputs made another kernel.'],
  unknown: ['idle', 'unknown inputs', 'The inputs of at least one image are unknown.'],
}

/** The page that compares two images: what is other, and could that be why it broke. */
export function ComparisonPage({ view }: { view: ComparisonView }) {
  const { repository, from, to, outline, json } = view
  const [mood, word, meaning] = VERDICTS[outline.verdict]
  const { kernel } = outline
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: imagesPath(repository), name: 'Images' },
        ]}
      >
        {`${nameOf(from)} compared with ${nameOf(to)}`}
      </Heading>
      <p>
        <State mood={mood}>{word}</State> {meaning}
      </p>
      <div class="columns">
        <Side title="Before" repository={repository} side={from} kernel={kernel.from} />
        <Side title="After" repository={repository} side={to} kernel={kernel.to} />
      </div>
      <p>
        <a href={comparisonPath(repository, to.digest, from.digest)}>Compare the other way round</a>
      </p>
      <Section id="why" title="Could that be why it broke?">
        <Reasons outline={outline} />
      </Section>
      <Changes
        title="Sources with other bytes under the same address"
        list={outline.replacedSources}
        json={json}
        id="replaced"
      />
      <Changes title="Devices" list={outline.devices} json={json} id="devices" />
      <Changes title="Compiler" list={outline.compiler} json={json} id="compiler" />
      <Changes
        title="Packages of opam"
        list={outline.packages}
        json={json}
        id="packages"
        ecosystem="opam"
      />
      <Changes title="Vendored sources" list={outline.sources} json={json} id="sources" />
      <Changes
        title="Packages of the host"
        list={outline.hostPackages}
        json={json}
        id="host-packages"
        ecosystem={outline.ecosystem}
      />
      <Changes title="Build environment" list={outline.environment} json={json} id="environment" />
      <FileSizes files={outline.files} />
      <Unknown outline={outline} />
    </>
  )
}

/** A tag of an image, otherwise its digest. */
function nameOf({ digest, tags }: ComparedSide): string {
  return tags[0] ?? shortDigest(digest)
}

function Side({
  title,
  repository,
  side: { digest, tags, pushedAt },
  kernel,
}: {
  title: string
  repository: Repository
  side: ComparedSide
  kernel: ComparisonOutline['kernel']['from']
}) {
  const { target, abiVersion, architecture } = kernel
  const abi = abiVersion === null ? [] : [`ABI ${abiVersion}`]
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      <Facts
        facts={[
          ['Image', <ImageLink repository={repository} digest={digest} />],
          ['Tags', <TagLinks repository={repository} tags={tags} />],
          ['Pushed', <Time at={pushedAt} />],
          [
            'Kernel',
            <>
              <a href={kernelPath(kernel.digest)}>
                <code title={kernel.digest}>{shortDigest(kernel.digest)}</code>
              </a>
              , <Bytes count={kernel.size} />
            </>,
          ],
          [
            'Target',
            [target, ...abi, ...(architecture === undefined ? [] : [architecture])].join(', '),
          ],
        ]}
      />
    </section>
  )
}

/** The differences in the order in which they explain a failure. */
function Reasons({ outline }: { outline: ComparisonOutline }) {
  const { kernel, devices, replacedSources, compiler, packages, sources, hostPackages } = outline
  if (kernel.same) {
    return (
      <p>
        No: both have the same kernel, byte for byte. Look at the host, its devices and its
        arguments.
      </p>
    )
  }
  const { from, to } = kernel
  const changed = (list: ChangeList | null, one: string, many?: string) =>
    list === null || list.count === 0 ? undefined : counted(list.count, one, many)
  const reasons: readonly (ComponentChildren | undefined)[] = [
    from.target === to.target
      ? undefined
      : `Another target: ${from.target} before, ${to.target} now. The host needs another tender.`,
    from.abiVersion === to.abiVersion
      ? undefined
      : `Another ABI: ${from.abiVersion ?? 'unknown'} before, ${to.abiVersion ?? 'unknown'} now. The tender of the host must know it.`,
    from.architecture === to.architecture ? undefined : 'Another architecture of the processor.',
    devices !== null && devices.count > 0
      ? `Other devices: ${devices.shown.map(deviceText).join(', ')}. The host must have exactly these.`
      : undefined,
    replacedSources.count > 0
      ? `Somebody replaced the bytes of ${counted(replacedSources.count, 'source')}, without another address.`
      : undefined,
    outline.verdict === 'not-reproducible'
      ? 'The inputs are the same and the kernel is another one: the build itself is not deterministic.'
      : undefined,
    compiler !== null && compiler.count > 0 ? 'Another compiler.' : undefined,
    changed(packages, 'package of opam differs', 'packages of opam differ'),
    changed(sources, 'vendored source differs', 'vendored sources differ'),
    changed(hostPackages, 'package of the host differs', 'packages of the host differ'),
    changed(outline.environment, 'variable of the build differs', 'variables of the build differ'),
  ].filter((reason) => reason !== undefined)
  if (reasons.length === 0) {
    return <p>Only the kernel differs: nothing in the files of the two images says why.</p>
  }
  return (
    <ul>
      {reasons.map((reason, index) => (
        <li key={index}>{reason}</li>
      ))}
    </ul>
  )
}

function deviceText({ name, to, from }: Change): string {
  return to === null ? `without ${from} ${name}` : `with ${to} ${name}`
}

/** A table of differences of one kind; nothing when there are none. */
function Changes({
  id,
  title,
  list,
  json,
  ecosystem = null,
}: {
  id: string
  title: string
  list: ChangeList | null
  json: string
  /** The ecosystem of the packages in the table, whose names become links; null for other facts. */
  ecosystem?: string | null
}) {
  if (list === null || list.count === 0) return null
  const { count, shown } = list
  const hasNotes = shown.some(({ note }) => note !== null)
  return (
    <Section id={id} title={`${title}: ${counted(count, 'difference')}`}>
      <DataTable
        caption={title}
        filter={count > 10}
        columns={['Name', 'Before', 'After', ...(hasNotes ? ['Note'] : [])]}
        rows={shown.map(({ name, from, to, note }, index) => ({
          key: `${index} ${name}`,
          cells: [
            ecosystem === null ? name : <a href={packagePath(ecosystem, name)}>{name}</a>,
            from ?? <span class="faint">none</span>,
            to ?? <span class="faint">none</span>,
            ...(hasNotes ? [note ?? ''] : []),
          ],
        }))}
      />
      {count > shown.length ? (
        <p>
          The first {shown.length}. <a href={json}>All as JSON</a>
        </p>
      ) : null}
    </Section>
  )
}

function FileSizes({ files }: { files: ComparisonOutline['files'] }) {
  if (files.length === 0) return null
  return (
    <Section id="sizes" title="Sizes">
      <DataTable
        caption="Sizes of the files that differ"
        columns={[
          'File',
          { name: 'Before', kind: 'number' },
          { name: 'After', kind: 'number' },
          { name: 'Difference in bytes', kind: 'number' },
        ]}
        rows={files.map(({ role, from, to }) => ({
          key: role,
          cells: [
            role,
            from === null ? 'none' : <Bytes count={from} />,
            to === null ? 'none' : <Bytes count={to} />,
            signed((to ?? 0) - (from ?? 0)),
          ],
        }))}
      />
    </Section>
  )
}

function signed(count: number): string {
  return `${count > 0 ? '+' : '−'}${Math.abs(count).toLocaleString('en')}`
}

/** Says which kinds could not be compared, and which have no differences. */
function Unknown({ outline }: { outline: ComparisonOutline }) {
  const kinds: readonly (readonly [name: string, list: ChangeList | null])[] = [
    ['devices', outline.devices],
    ['the compiler', outline.compiler],
    ['packages of opam', outline.packages],
    ['vendored sources', outline.sources],
    ['packages of the host', outline.hostPackages],
    ['the build environment', outline.environment],
  ]
  const unknown = kinds.filter(([, list]) => list === null).map(([name]) => name)
  const same = kinds.filter(([, list]) => list?.count === 0).map(([name]) => name)
  const isSame = same.length === kinds.length && outline.kernel.same && outline.files.length === 0
  if (isSame) return <Empty>Nothing differs.</Empty>
  return (
    <>
      {same.length === 0 ? null : <p class="faint">The same on both sides: {same.join(', ')}.</p>}
      {unknown.length === 0 ? null : (
        <p class="faint">Unknown on one side, so not compared: {unknown.join(', ')}.</p>
      )}
    </>
  )
}
