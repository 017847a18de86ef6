import { DEPLOYMENT_STATES, type DeploymentState } from '../deployments/states.ts'
import type { TargetCounts } from '../events/event.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DeploymentStateWord, deploymentSummary } from './deployment-words.tsx'
import { DataTable, Empty, Heading, ImageLink, NextPage, Time } from './elements.tsx'
import { FilterLinks } from './filter-links.tsx'
import { deploymentPath, repositoryPath, tagPath } from './paths.ts'

/** A deployment of a list. */
export type DeploymentItem = {
  readonly id: string
  readonly repository: Repository
  readonly tag: Tag
  readonly number: number
  readonly digest: Digest
  readonly state: DeploymentState
  readonly createdAt: Date
  readonly counts: TargetCounts
}

/** The page of the deployments of all repositories: how far they are, and which failed. */
export function DeploymentsPage({
  deployments,
  state,
  next,
}: {
  /** Newest first. */
  deployments: readonly DeploymentItem[]
  /** The state that all of them have; undefined: any. */
  state: string | undefined
  next: string | undefined
}) {
  return (
    <>
      <Heading note="A deployment brings the image of a tag to the hosts that follow the tag.">
        Deployments
      </Heading>
      <FilterLinks
        label="State"
        path="/deployments"
        parameter="state"
        values={DEPLOYMENT_STATES}
        chosen={state}
      />
      {deployments.length === 0 ? (
        <Empty>
          {state === undefined && next === undefined
            ? 'No deployment is here. One begins when a tag is set that units of hosts follow.'
            : 'No deployment of this page is one that you may see and that is in this state.'}
        </Empty>
      ) : (
        <DataTable
          caption="Deployments, newest first"
          filter
          columns={['Deployment', 'State', 'Units', 'Tag', 'Image', 'Begun']}
          rows={deployments.map((one) => ({ key: one.id, cells: cellsOf(one) }))}
        />
      )}
      <NextPage href={next} name="Earlier deployments" />
    </>
  )
}

function cellsOf({
  id,
  repository,
  tag,
  number,
  digest,
  state,
  createdAt,
  counts,
}: DeploymentItem) {
  return [
    <a href={deploymentPath(id)}>Deployment {number}</a>,
    <DeploymentStateWord state={state} />,
    deploymentSummary(counts),
    <>
      <a href={repositoryPath(repository)}>{repository}</a>:
      <a href={tagPath(repository, tag)}>{tag}</a>
    </>,
    <ImageLink repository={repository} digest={digest} />,
    <Time at={createdAt} />,
  ]
}
