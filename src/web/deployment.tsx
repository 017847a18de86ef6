import type { ComponentChildren } from 'preact'
import type { DeploymentKind } from '../deployments/states.ts'
import type { Digest } from '../oci/digest.ts'
import { CAUSES, DeploymentStateWord, deploymentSummary } from './deployment-words.tsx'
import type { DeploymentItem } from './deployments.tsx'
import { ActionButton, Facts, Heading, ImageLink, Section, Time } from './elements.tsx'
import { comparisonPath, deploymentPath, repositoryPath, tagPath } from './paths.ts'
import { Failures, type TargetItem, TargetTable } from './targets.tsx'
import { counted } from './texts.ts'

/** How a deployment reaches its units. */
export type RolloutItem = {
  readonly name: string | null
  readonly canary: number | string
  readonly batch: number | string | null
  readonly settleSeconds: number
  readonly deadlineSeconds: number
  readonly pauseAfter: string | null
  readonly maxFailures: number | string
  readonly onFailure: 'halt' | 'rollback'
  readonly require: Readonly<Record<string, string>>
}

export type DeploymentView = DeploymentItem & {
  readonly previous: Digest | null
  readonly kind: DeploymentKind
  /** Null also for a caller who may not see it. */
  readonly reason: string | null
  readonly actor: string | null
  readonly finishedAt: Date | null
  readonly rollout: RolloutItem
  /** Undefined for a caller who may not see on which hosts images run. */
  readonly targets?: readonly TargetItem[]
}

/** The page of a deployment: how far it is, which units failed, and why. The script follows it until it ends. */
export function DeploymentPage({
  deployment,
  mayChange,
}: {
  deployment: DeploymentView
  /** True when the caller may push the tag. */
  mayChange: boolean
}) {
  const { id, repository, tag, number, state, counts, reason, finishedAt, targets } = deployment
  return (
    <div
      data-live={`${deploymentPath(id)}/stream`}
      data-ended={finishedAt === null ? undefined : ''}
    >
      <Heading
        trail={[
          { href: '/deployments', name: 'Deployments' },
          { href: repositoryPath(repository), name: repository },
          { href: tagPath(repository, tag), name: tag },
        ]}
      >
        Deployment {number}
      </Heading>
      <p>
        <DeploymentStateWord state={state} /> · {deploymentSummary(counts)}
      </p>
      <progress
        class="wide"
        aria-label="Healthy units"
        max={Math.max(1, counts.of)}
        value={counts.healthy}
      />
      {reason === null ? null : <p>{reason}</p>}
      {mayChange ? <Actions deployment={deployment} /> : null}
      <Facts facts={factsOf(deployment)} />
      {targets === undefined ? (
        <p class="note">Only those who may push to the repository see its hosts.</p>
      ) : (
        <>
          <Failures targets={targets} />
          <TargetTable targets={targets} of={counts.of} />
        </>
      )}
      <Section id="policy" title="Rollout">
        <Facts facts={rolloutFacts(deployment.rollout)} />
      </Section>
      <Section id="timeline" title="Timeline">
        <Timeline deployment={deployment} />
      </Section>
    </div>
  )
}

function factsOf(deployment: DeploymentView): (readonly [string, ComponentChildren])[] {
  const { repository, digest, previous, kind, actor, createdAt, finishedAt, counts } = deployment
  return [
    ['Image', <ImageLink repository={repository} digest={digest} />],
    [
      'Before',
      previous === null ? null : (
        <>
          <ImageLink repository={repository} digest={previous} />{' '}
          <a href={comparisonPath(repository, previous, digest)}>
            Changes since the previous image
          </a>
        </>
      ),
    ],
    ['Cause', `${CAUSES[kind]}${actor === null ? '' : ` by ${actor}`}`],
    ['Begun', <Time at={createdAt} />],
    ['Ended', finishedAt === null ? null : <Time at={finishedAt} />],
    ['Waiting', counts.waiting || null],
    ['In progress', counts.inFlight || null],
    ['Settled', counts.settled || null],
    ['Skipped', counts.skipped || null],
  ]
}

function Actions({ deployment: { id, number, state, counts } }: { deployment: DeploymentView }) {
  const path = deploymentPath(id)
  const isOpen = state === 'rolling' || state === 'paused'
  const of = `deployment ${number}`
  const canRetry = !isOpen && counts.failed + counts.refused > 0
  return (
    <div class="actions">
      {state === 'rolling' ? (
        <ActionButton action={`${path}/pause`} name="Pause" label={`Pause ${of}`} />
      ) : null}
      {state === 'paused' ? (
        <ActionButton action={`${path}/resume`} name="Resume" label={`Resume ${of}`} />
      ) : null}
      {isOpen ? (
        <ActionButton
          action={`${path}/cancel`}
          name="Cancel"
          kind="danger"
          label={`Cancel ${of}`}
        />
      ) : null}
      {canRetry ? (
        <ActionButton
          action={`${path}/retry`}
          name="Retry the failed units"
          label={`Retry the failed units of ${of}`}
        />
      ) : null}
    </div>
  )
}

function rolloutFacts(rollout: RolloutItem): (readonly [string, ComponentChildren])[] {
  const { name, canary, batch, pauseAfter, maxFailures, onFailure } = rollout
  const labels = Object.entries(rollout.require).map(([label, value]) => `${label}=${value}`)
  return [
    ['Name', name ?? <span class="faint">none matches the tag</span>],
    ['First, alone', canary === 0 ? 'no unit' : amountText(canary)],
    ['At the same time', batch === null ? 'all units' : amountText(batch)],
    ['Must stay healthy for', `${rollout.settleSeconds} s`],
    ['Must be healthy within', `${rollout.deadlineSeconds} s`],
    ['Pauses after', pauseAfter === null ? 'nothing' : `each ${pauseAfter}`],
    ['Failures that it survives', amountText(maxFailures)],
    ['When more fail', onFailure === 'halt' ? 'it halts' : 'the tag is moved back'],
    ['Hosts must have', labels.join(', ')],
  ]
}

function amountText(amount: number | string): string {
  return typeof amount === 'number' ? counted(amount, 'unit') : `${amount} of the units`
}

type Moment = { readonly at: Date; readonly text: string }

/** Moments that the page shows: the newest ones. */
const MOMENTS_MAX = 25

function Timeline({ deployment }: { deployment: DeploymentView }) {
  const { createdAt, finishedAt, state, targets = [] } = deployment
  const ofTargets = targets.flatMap(
    ({ host, unit, grantedAt, healthyAt, settledAt, ...target }) => {
      const name = `${unit} on ${host}`
      return [
        ...moments(grantedAt, `${name} may update`),
        ...moments(healthyAt, `${name} is healthy`),
        ...moments(settledAt, `${name} has settled`),
        ...(target.isFailure ? moments(target.since, `${name}: ${target.state}`) : []),
      ]
    },
  )
  const all = [
    { at: createdAt, text: 'begun' },
    ...ofTargets.sort((one, other) => one.at.getTime() - other.at.getTime()),
    ...moments(finishedAt, state),
  ]
  const shown = all.slice(-MOMENTS_MAX)
  return (
    <>
      {all.length > shown.length ? (
        <p class="note">The newest {counted(shown.length, 'entry', 'entries')}.</p>
      ) : null}
      <ol class="timeline">
        {shown.map(({ at, text }, index) => (
          <li key={index} class={index === shown.length - 1 ? 'now' : undefined}>
            {text}{' '}
            <span class="faint">
              <Time at={at} />
            </span>
          </li>
        ))}
      </ol>
    </>
  )
}

function moments(at: Date | null, text: string): Moment[] {
  return at === null ? [] : [{ at, text }]
}
