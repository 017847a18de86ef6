import type { DeploymentState } from '../deployments/states.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { BuildResultState, type BuildResultWord } from './build-words.tsx'
import { DeploymentStateWord } from './deployment-words.tsx'
import { DataTable, Section, Time } from './elements.tsx'
import { HostStateWord } from './host-words.tsx'
import { buildPath, deploymentPath, hostPath, repositoryPath, tagPath } from './paths.ts'
import { counted } from './texts.ts'

/** Failures of the last days, and hosts, that the reader may see and should look at. */
export type AttentionView = {
  readonly deployments: readonly {
    readonly id: string
    readonly repository: Repository
    readonly tag: Tag
    readonly number: number
    readonly state: DeploymentState
    readonly at: string
  }[]
  readonly builds: readonly {
    readonly id: string
    readonly repository: Repository
    readonly result: BuildResultWord
    readonly platform: string | null
    readonly at: string
  }[]
  /** Hosts that wait for an approval, and hosts that are offline. */
  readonly hosts: readonly {
    readonly name: string
    readonly state: 'pending' | 'active'
    readonly at: string
  }[]
}

/** Hosts that the section names; the page of hosts has all. */
const HOSTS_SHOWN = 5

/** The section of failures, and of hosts that need a person. Nothing when all is well. */
export function AttentionSection({
  attention: { deployments, builds, hosts },
}: {
  attention: AttentionView
}) {
  const shown = hosts.slice(0, HOSTS_SHOWN)
  const rows = [
    ...shown.map(({ name, state, at }) => ({
      key: `host ${name}`,
      cells: [
        <>
          Host <a href={hostPath(name)}>{name}</a>
        </>,
        <HostStateWord word={state === 'pending' ? 'pending' : 'offline'} />,
        <Time at={at} />,
      ],
    })),
    ...deployments.map(({ id, repository, tag, number, state, at }) => ({
      key: id,
      cells: [
        <>
          <a href={deploymentPath(id)}>Deployment {number}</a> of{' '}
          <a href={tagPath(repository, tag)}>
            {repository}:{tag}
          </a>
        </>,
        <DeploymentStateWord state={state} />,
        <Time at={at} />,
      ],
    })),
    ...builds.map(({ id, repository, result, platform, at }) => ({
      key: id,
      cells: [
        <>
          <a href={buildPath(repository, id)}>Build</a> of{' '}
          <a href={repositoryPath(repository)}>{repository}</a>
          {platform === null ? '' : ` on ${platform}`}
        </>,
        <BuildResultState result={result} />,
        <Time at={at} />,
      ],
    })),
  ]
  if (rows.length === 0) return null
  const more = hosts.length - shown.length
  return (
    <Section id="attention" title="Needs attention">
      <DataTable caption="What needs attention" columns={['What', 'State', 'Since']} rows={rows} />
      {more > 0 ? (
        <p>
          <a href="/hosts">{counted(more, 'more host')}</a>
        </p>
      ) : null}
    </Section>
  )
}
