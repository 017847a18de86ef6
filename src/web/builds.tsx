import type { Repository } from '../oci/reference.ts'
import { BarChart } from './bar-chart.tsx'
import type { BuildItem } from './build-item.ts'
import { BuildMatrix } from './build-matrix.tsx'
import { BuildOutcome } from './build-words.tsx'
import {
  Bytes,
  DataTable,
  Empty,
  Heading,
  ImageLink,
  NextPage,
  Section,
  Time,
} from './elements.tsx'
import { buildPath, repositoryPath } from './paths.ts'
import { bytesText, durationText, timeText } from './texts.ts'

/** The page of the builds of a repository, newest first. */
export function BuildsPage({
  repository,
  builds,
  next,
}: {
  repository: Repository
  builds: readonly BuildItem[]
  next: string | undefined
}) {
  const showsBuilder = builds.some(({ builder }) => builder !== null)
  return (
    <>
      <Heading trail={[{ href: repositoryPath(repository), name: repository }]}>Builds</Heading>
      {builds.length === 0 ? (
        <Empty>
          No build is recorded here. Each push of an image with its inputs records one; a builder
          also reports builds that failed.
        </Empty>
      ) : (
        <>
          <Trends builds={builds} />
          <Section id="list" title="Newest first">
            <DataTable
              caption={`Builds of ${repository}`}
              filter
              columns={[
                'Build',
                'Outcome',
                'Platform',
                { name: 'Took', kind: 'number' },
                'Image',
                { name: 'Kernel', kind: 'number' },
                ...(showsBuilder ? ['By'] : []),
              ]}
              rows={builds.map((build) => ({
                key: build.id,
                cells: [
                  <a href={buildPath(repository, build.id)}>
                    <Time at={build.recordedAt} />
                  </a>,
                  <BuildOutcome build={build} />,
                  build.platform ?? 'unknown',
                  durationText(build.startedAt, build.finishedAt) ?? '',
                  build.exists && build.kernelDigest !== null ? (
                    <ImageLink repository={repository} digest={build.digest} />
                  ) : (
                    'none'
                  ),
                  build.kernelSize === null ? '' : <Bytes count={build.kernelSize} />,
                  ...(showsBuilder ? [build.builder ?? ''] : []),
                ],
              }))}
            />
            <NextPage href={next} />
          </Section>
          <BuildMatrix builds={builds} />
        </>
      )}
    </>
  )
}

/** Pictures of the builds of the page; without enough of them nothing. */
function Trends({ builds }: { builds: readonly BuildItem[] }) {
  const inTime = builds.toReversed()
  const sizes = inTime.flatMap(({ id, kernelSize, recordedAt, result }) =>
    kernelSize === null
      ? []
      : [
          {
            key: id,
            value: kernelSize,
            title: `${timeText(recordedAt)}: ${bytesText(kernelSize)}`,
            isBad: result !== 'succeeded',
          },
        ],
  )
  const durations = inTime.flatMap(({ id, startedAt, finishedAt, recordedAt, result }) =>
    startedAt === null || finishedAt === null
      ? []
      : [
          {
            key: id,
            value: Math.max(0, finishedAt.getTime() - startedAt.getTime()),
            title: `${timeText(recordedAt)}: ${durationText(startedAt, finishedAt)}, ${result}`,
            isBad: result !== 'succeeded',
          },
        ],
  )
  if (sizes.length < 2 && durations.length < 2) return null
  return (
    <div class="columns">
      {durations.length < 2 ? null : <BarChart name="Durations, oldest first" bars={durations} />}
      {sizes.length < 2 ? null : <BarChart name="Sizes of kernels, oldest first" bars={sizes} />}
    </div>
  )
}
