import type { DeploymentState } from '../deployments/states.ts'
import type { TargetCounts } from '../events/event.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DeploymentStateWord, deploymentSummary } from './deployment-words.tsx'
import {
  ActionButton,
  Empty,
  Heading,
  ImageLink,
  Lines,
  NextPage,
  Section,
  ShortDigest,
  Time,
} from './elements.tsx'
import { type FollowerItem, FollowerTable } from './followers.tsx'
import { comparisonPath, deploymentPath, repositoryPath, tagPath, tagsPath } from './paths.ts'
import { type PositionRuns, RanOn } from './position-runs.tsx'
import { shortDigest } from './texts.ts'

/** A position of a tag. */
export type PositionItem = {
  readonly id: number
  /** Null: the tag was deleted. */
  readonly digest: Digest | null
  readonly previousDigest: Digest | null
  /** Null for a caller who may not see it. */
  readonly actor: string | null
  readonly reason: string
  readonly movedAt: Date
  /** False when the manifest is deleted. */
  readonly present: boolean
  /** Empty for a caller who may not see hosts. */
  readonly ran: PositionRuns
  /** Newest first. Empty for a caller who may not see them. */
  readonly deployments: readonly TagDeployment[]
}

/** A deployment of the tag. */
export type TagDeployment = {
  readonly id: string
  readonly number: number
  readonly state: DeploymentState
  readonly counts: TargetCounts
}

export type TagView = {
  readonly registry: string
  readonly repository: Repository
  readonly tag: Tag
  /** Newest first. */
  readonly positions: readonly PositionItem[]
  /** True on the first page, whose first position is the present one. */
  readonly isNewest: boolean
  readonly next: string | undefined
  readonly followers: readonly FollowerItem[]
  /** True when the caller may move the tag. */
  readonly mayMove: boolean
}

/** The page of a tag: where it points, where it pointed before, who moved it, what ran then, and how to go back. */
export function TagPage(view: TagView) {
  const { registry, repository, tag, positions, followers } = view
  const present = view.isNewest ? positions[0] : undefined
  return (
    <>
      <Heading
        trail={[
          { href: repositoryPath(repository), name: repository },
          { href: tagsPath(repository), name: 'Tags' },
        ]}
        note={present === undefined ? undefined : <Present view={view} position={present} />}
      >
        {tag}
      </Heading>
      <div class="columns">
        <Section
          id="history"
          title="History"
          note="Newest first. To go back, move the tag to an earlier image: the hosts that follow it change to that image."
        >
          <ol class="timeline">
            {positions.map((position, index) => (
              <Position
                key={position.id}
                view={view}
                position={position}
                isPresent={view.isNewest && index === 0}
              />
            ))}
          </ol>
          <NextPage href={view.next} name="Earlier positions" />
        </Section>
        <div>
          <Section id="runs" title="Where it runs">
            {followers.length === 0 ? (
              <Empty>No host that reports follows this tag.</Empty>
            ) : (
              <FollowerTable repository={repository} followers={followers} showsTag={false} />
            )}
          </Section>
          <Section id="lines" title="Commands">
            <Lines label="Go back to the position before">
              {`rookery tag rollback ${registry}/${repository}:${tag}`}
            </Lines>
            <Lines label="See what is in it">{`rookery inspect ${registry}/${repository}:${tag}`}</Lines>
          </Section>
        </div>
      </div>
    </>
  )
}

function Present({ view, position }: { view: TagView; position: PositionItem }) {
  const { repository } = view
  if (position.digest === null) return <>The tag was deleted.</>
  return (
    <>
      Points to <ImageLink repository={repository} digest={position.digest} /> since{' '}
      <Time at={position.movedAt} />
      {position.previousDigest === null ? null : (
        <>
          {'. '}
          <a href={comparisonPath(repository, position.previousDigest, position.digest)}>
            Changes of this move
          </a>
        </>
      )}
    </>
  )
}

const REASONS: Readonly<Record<string, string>> = {
  push: 'set',
  rollback: 'set back',
  delete: 'deleted',
}

/** The first page has the present position. */
function isPresentImage({ isNewest, positions }: TagView, digest: Digest): boolean {
  return isNewest && positions[0]?.digest === digest
}

function Position({
  view,
  position,
  isPresent,
}: {
  view: TagView
  position: PositionItem
  isPresent: boolean
}) {
  const { repository, tag, mayMove } = view
  const { digest, actor, reason, movedAt, present, ran, deployments } = position
  const mayReturn = mayMove && digest !== null && present && !isPresentImage(view, digest)
  return (
    <li class={isPresent ? 'now' : undefined}>
      {digest === null ? <span class="faint">no image</span> : null}
      {digest !== null && present ? <ImageLink repository={repository} digest={digest} /> : null}
      {digest !== null && !present ? (
        <>
          <ShortDigest digest={digest} /> <span class="faint">deleted since</span>
        </>
      ) : null}
      {isPresent ? <strong> now</strong> : null}
      <div class="faint">
        {REASONS[reason] ?? reason} <Time at={movedAt} />
        {actor === null ? '' : ` by ${actor}`}
      </div>
      {deployments.map(({ id, number, state, counts }) => (
        <div key={id}>
          <a href={deploymentPath(id)}>Deployment {number}</a>:{' '}
          <DeploymentStateWord state={state} />{' '}
          <span class="faint">{deploymentSummary(counts)}</span>
        </div>
      ))}
      <RanOn ran={ran} />
      {mayReturn && digest !== null ? (
        <ActionButton
          action={`${tagPath(repository, tag)}/rollback`}
          name="Move the tag here"
          label={`Move the tag here: ${tag} to ${shortDigest(digest)}`}
          fields={{ digest }}
        />
      ) : null}
    </li>
  )
}
