import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { BuildItem } from './build-item.ts'
import { BuildOutcome, BuildResultState, type BuildResultWord } from './build-words.tsx'
import {
  Bytes,
  DataTable,
  Empty,
  Facts,
  Heading,
  ImageLink,
  Lines,
  Section,
  ShortDigest,
  Time,
} from './elements.tsx'
import { apiPath, buildPath, buildsPath, inputsPath, kernelPath, repositoryPath } from './paths.ts'
import { counted, durationText } from './texts.ts'

export type BuildView = {
  readonly repository: Repository
  readonly build: BuildItem
  /** The roles of the files that people read. */
  readonly texts: readonly string[]
  /** The last lines of the console. Undefined without one. */
  readonly console: { readonly text: string; readonly isWhole: boolean } | undefined
  /** Other builds from the same inputs in the repository, newest first. */
  readonly others: readonly {
    readonly id: string
    readonly result: BuildResultWord
    readonly kernelDigest: Digest | null
    readonly platform: string | null
    readonly builder: string | null
    readonly recordedAt: string
  }[]
}

/** The page of a build: did it build, on what, what did it print, and who got the same. */
export function BuildPage(view: BuildView) {
  const { repository, build, texts, console: end } = view
  const file = (role: string) => apiPath(repository, `builds/${build.id}/${role}`)
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: buildsPath(repository), name: 'Builds' },
        ]}
        note={<Time at={build.recordedAt} />}
      >
        Build {build.id.slice(0, 8)}
      </Heading>
      <p>
        <BuildOutcome build={build} /> <Meaning build={build} />
      </p>
      <BuildFacts view={view} />
      {texts.length === 0 ? null : (
        <ul class="links">
          {texts.map((role) => (
            <li key={role}>
              <a href={file(role)}>{`The ${role} as text`}</a>
            </li>
          ))}
        </ul>
      )}
      <Section id="console" title="Console">
        {end === undefined ? (
          <Empty>This build was recorded without its console.</Empty>
        ) : (
          <Lines label={end.isWhole ? 'The whole output' : 'The last lines'}>{end.text}</Lines>
        )}
      </Section>
      <Others view={view} />
    </>
  )
}

function Meaning({
  build: { result, same, other, inputId, exitCode, signal, message },
}: {
  build: BuildItem
}) {
  if (result !== 'succeeded') {
    const reasons = [
      exitCode === null ? undefined : `exit code ${exitCode}`,
      signal === null ? undefined : `signal ${signal}`,
      message ?? undefined,
    ].filter((reason) => reason !== undefined)
    return <>{reasons.join(', ')}</>
  }
  if (other > 0) return <>{counted(other, 'other build')} of the same inputs made another kernel.</>
  if (same > 0) return <>{counted(same, 'other build')} of the same inputs made the same kernel.</>
  return (
    <>
      {inputId === null
        ? 'Its inputs are unknown, so that nobody can compare it.'
        : 'No other build of the same inputs is in this repository.'}
    </>
  )
}

function BuildFacts({ view: { repository, build } }: { view: BuildView }) {
  const { digest, exists, kernelDigest, kernelSize, inputId, platform, builder } = build
  return (
    <Facts
      facts={[
        ['Id', <code>{build.id}</code>],
        ['Platform', platform ?? 'unknown'],
        ['Started', build.startedAt === null ? undefined : <Time at={build.startedAt} />],
        ['Took', durationText(build.startedAt, build.finishedAt)],
        ['By', builder],
        [
          exists && kernelDigest !== null ? 'Image' : 'Manifest',
          exists && kernelDigest !== null ? (
            <ImageLink repository={repository} digest={digest} />
          ) : (
            <>
              <ShortDigest digest={digest} />
              {exists ? '' : ', deleted since'}
            </>
          ),
        ],
        [
          'Kernel',
          kernelDigest === null ? undefined : (
            <>
              <a href={kernelPath(kernelDigest)}>
                <ShortDigest digest={kernelDigest} />
              </a>
              {kernelSize === null ? null : (
                <>
                  , <Bytes count={kernelSize} />
                </>
              )}
            </>
          ),
        ],
        [
          'Inputs',
          inputId === null ? (
            'unknown'
          ) : (
            <a href={inputsPath(inputId)}>
              <code title={inputId}>{inputId.slice(0, 12)}</code>
            </a>
          ),
        ],
      ]}
    />
  )
}

/** Other builds that a page lists. */
const OTHERS_SHOWN_MAX = 20

function Others({ view: { repository, build, others } }: { view: BuildView }) {
  const { inputId, kernelDigest } = build
  const shown = others.slice(0, OTHERS_SHOWN_MAX)
  const showsBuilder = shown.some(({ builder }) => builder !== null)
  return (
    <Section id="others" title="Who got the same">
      {shown.length === 0 ? (
        <Empty>No other build of these inputs is in this repository.</Empty>
      ) : (
        <DataTable
          caption="Other builds of the same inputs"
          columns={['Build', 'Result', 'Kernel', 'Platform', ...(showsBuilder ? ['By'] : [])]}
          rows={shown.map((other) => ({
            key: other.id,
            cells: [
              <a href={buildPath(repository, other.id)}>
                <Time at={other.recordedAt} />
              </a>,
              <BuildResultState result={other.result} />,
              other.kernelDigest === null || kernelDigest === null
                ? 'none'
                : other.kernelDigest === kernelDigest
                  ? 'the same'
                  : 'another',
              other.platform ?? 'unknown',
              ...(showsBuilder ? [other.builder ?? ''] : []),
            ],
          }))}
        />
      )}
      {inputId === null ? null : (
        <p>
          <a href={inputsPath(inputId)}>All builds of these inputs, also in other repositories</a>
        </p>
      )}
    </Section>
  )
}
