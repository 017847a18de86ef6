import type { TargetState } from '../deployments/states.ts'
import type { Digest } from '../oci/digest.ts'
import { TargetStateWord } from './deployment-words.tsx'
import { DataTable, Lines, Section, ShortDigest, Time } from './elements.tsx'
import { HostName } from './host-words.tsx'
import { kernelPath } from './paths.ts'
import { counted } from './texts.ts'

/** A unit in a deployment. */
export type TargetItem = {
  readonly host: string
  /** The page of the host; undefined for a reader who may not see it. */
  readonly hostPath: string | undefined
  readonly unit: string
  readonly state: TargetState
  readonly isFailure: boolean
  readonly kernel: Digest | null
  readonly since: Date
  readonly grantedAt: Date | null
  readonly healthyAt: Date | null
  readonly settledAt: Date | null
  readonly reason: string | null
  readonly message: string | null
  readonly exit?: { readonly code: number; readonly meaning: string | null }
  readonly log?: string
}

/** Failed units whose messages and logs the page shows; the JSON has all. */
const FAILURES_SHOWN = 8
/** Targets that the page shows: the failed ones come first. */
export const TARGETS_SHOWN = 40
const LOG_LINES_SHOWN = 12
const LINE_CHARACTERS_SHOWN = 240

/** The units of a deployment that failed, and why. */
export function Failures({ targets }: { targets: readonly TargetItem[] }) {
  const failed = targets.filter(({ isFailure }) => isFailure)
  if (failed.length === 0) return null
  const shown = failed.slice(0, FAILURES_SHOWN)
  return (
    <Section id="failures" title={counted(failed.length, 'failure')}>
      {shown.map((target) => (
        <Failure key={`${target.host} ${target.unit}`} target={target} />
      ))}
      {failed.length > shown.length ? (
        <p class="note">The JSON of this page has the other failures.</p>
      ) : null}
    </Section>
  )
}

function Failure({ target }: { target: TargetItem }) {
  const { host, hostPath, unit, state, reason, message, exit, log, since } = target
  const causes = [reason, exitText(exit), message].filter((one) => one !== null)
  return (
    <article class="failure">
      <h3>
        {unit} on <HostName name={host} path={hostPath} />
      </h3>
      <p>
        <TargetStateWord state={state} /> <Time at={since} />
        {causes.length === 0 ? null : `: ${causes.join('; ')}`}
      </p>
      {log === undefined ? null : <Lines label="What it printed last">{lastLines(log)}</Lines>}
    </article>
  )
}

function exitText(exit: TargetItem['exit']): string | null {
  if (exit === undefined) return null
  return `exit code ${exit.code}${exit.meaning === null ? '' : `, ${exit.meaning}`}`
}

/** Returns the last lines of what a kernel printed, each shortened. */
export function lastLines(log: string): string {
  const lines = log.trimEnd().split('\n').slice(-LOG_LINES_SHOWN)
  return lines.map((line) => line.slice(0, LINE_CHARACTERS_SHOWN)).join('\n')
}

/** The units of a deployment. `of`: how many there are. */
export function TargetTable({ targets, of }: { targets: readonly TargetItem[]; of: number }) {
  const shown = targets.slice(0, TARGETS_SHOWN)
  if (shown.length === 0) return null
  return (
    <Section
      id="units"
      title="Units"
      note={
        of > shown.length
          ? `${shown.length} of ${of}: the failed ones first, and then in the order of the rollout. The JSON of this page has more.`
          : undefined
      }
    >
      <DataTable
        caption="Units of the deployment"
        filter
        columns={['Host', 'Unit', 'State', 'Since', 'Kernel', 'Healthy']}
        rows={shown.map(({ host, hostPath, unit, state, since, kernel, healthyAt }) => ({
          key: `${host} ${unit}`,
          cells: [
            <HostName name={host} path={hostPath} />,
            unit,
            <TargetStateWord state={state} />,
            <Time at={since} />,
            kernel === null ? (
              <span class="faint">none</span>
            ) : (
              <a href={kernelPath(kernel)}>
                <ShortDigest digest={kernel} />
              </a>
            ),
            healthyAt === null ? <span class="faint">not yet</span> : <Time at={healthyAt} />,
          ],
        }))}
      />
    </Section>
  )
}
