import { State, Time } from './elements.tsx'
import { HostName } from './host-words.tsx'

/** A run of an image in a unit of a host. */
type HostRun = {
  readonly host: string
  readonly hostPath: string | undefined
  readonly from: string
  /** Null: it still runs. */
  readonly to: string | null
}

/** Where an image ran while a tag had it. */
export type PositionRuns = {
  /** Newest first. */
  readonly runs: readonly HostRun[]
  /** True when there may be more. */
  readonly more: boolean
}

/** Hosts that one line names. */
const HOSTS_SHOWN = 3

/** The hosts on which an image runs, since when, and those on which it ran. */
export function RanOn({ ran: { runs, more } }: { ran: PositionRuns }) {
  if (runs.length === 0) return null
  const live = runs.filter(({ to }) => to === null)
  const isLive = (host: string) => live.some((run) => run.host === host)
  const ended = runs.filter(({ host, to }) => to !== null && !isLive(host))
  const lastEnd = Math.max(...ended.map(({ to }) => Date.parse(to ?? '')))
  return (
    <>
      {live.length === 0 ? null : (
        <div>
          <State mood="good">runs</State> on <Hosts runs={live} more={more && ended.length === 0} />{' '}
          since <Time at={earliest(live)} />
        </div>
      )}
      {ended.length === 0 ? null : (
        <div>
          <State mood="idle">ran</State> on <Hosts runs={ended} more={more} />, from{' '}
          <Time at={earliest(ended)} /> until <Time at={new Date(lastEnd)} />
        </div>
      )}
    </>
  )
}

function earliest(runs: readonly HostRun[]): Date {
  return new Date(Math.min(...runs.map(({ from }) => Date.parse(from))))
}

function Hosts({ runs, more }: { runs: readonly HostRun[]; more: boolean }) {
  const byName = new Map(runs.map(({ host, hostPath }) => [host, hostPath]))
  const shown = [...byName].slice(0, HOSTS_SHOWN)
  const rest = byName.size - shown.length
  return (
    <>
      {shown.map(([name, path], index) => (
        <>
          {index === 0 ? '' : ', '}
          <HostName name={name} path={path} />
        </>
      ))}
      {rest > 0 ? ` and ${rest} more` : ''}
      {more && rest === 0 ? ' and others' : ''}
    </>
  )
}
