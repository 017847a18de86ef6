import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import { DataTable, Empty, Section, ShortDigest, State, Time } from './elements.tsx'
import { HostName } from './host-words.tsx'
import { kernelPath, repositoryPath } from './paths.ts'

/** A kernel that ran in a unit of a host. */
export type RunItem = {
  readonly id: number
  readonly host: string
  /** The page of the host; undefined for a reader who may not see it. */
  readonly hostPath: string | undefined
  readonly unit: string
  readonly repository: Repository
  readonly kernel: Digest
  readonly from: Date
  /** Null: it still runs, as far as its host reported. */
  readonly to: Date | null
  /** The versions of the package that was asked for. Empty for an unknown one. */
  readonly versions?: readonly string[]
}

/** The first runs of a list. */
export type RunList = {
  readonly runs: readonly RunItem[]
  /** True when there may be more. */
  readonly more: boolean
  /** The path of the whole list in the API. */
  readonly json: string
}

/** The section of runs. `list`: undefined for a caller who may not see hosts. */
export function RunSection({
  title,
  list,
  none,
  showsHost = true,
}: {
  title: string
  list: RunList | undefined
  /** The text in place of an empty list. */
  none: string
  /** False when they are all of one host. */
  showsHost?: boolean
}) {
  return (
    <Section id="runs" title={title}>
      {list === undefined ? (
        <Empty>Hosts are shown to those who may push to the repository that runs there.</Empty>
      ) : null}
      {list !== undefined && list.runs.length === 0 ? <Empty>{none}</Empty> : null}
      {list !== undefined && list.runs.length > 0 ? (
        <RunTable caption={title} runs={list.runs} showsHost={showsHost} />
      ) : null}
      {list?.more ? (
        <p>
          <a href={list.json}>All of them, as JSON</a>
        </p>
      ) : null}
    </Section>
  )
}

function RunTable({
  caption,
  runs,
  showsHost,
}: {
  caption: string
  runs: readonly RunItem[]
  showsHost: boolean
}) {
  const showsVersions = runs.some(({ versions }) => versions !== undefined)
  const showsEnd = runs.some(({ to }) => to !== null)
  return (
    <DataTable
      caption={caption}
      columns={[
        ...(showsHost ? ['Host'] : []),
        'Unit',
        'State',
        ...(showsVersions ? ['Version'] : []),
        'Repository',
        'Kernel',
        'Since',
        ...(showsEnd ? ['Until'] : []),
      ]}
      rows={runs.map(({ id, host, hostPath, unit, repository, kernel, from, to, versions }) => ({
        key: String(id),
        cells: [
          ...(showsHost ? [<HostName name={host} path={hostPath} />] : []),
          unit,
          to === null ? <State mood="good">runs</State> : <State mood="idle">ended</State>,
          ...(showsVersions ? [(versions ?? []).map((one) => one || 'unknown').join(', ')] : []),
          <a href={repositoryPath(repository)}>{repository}</a>,
          <a href={kernelPath(kernel)}>
            <ShortDigest digest={kernel} />
          </a>,
          <Time at={from} />,
          ...(showsEnd ? [to === null ? '' : <Time at={to} />] : []),
        ],
      }))}
    />
  )
}
