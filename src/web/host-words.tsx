import type { UnitState } from '../deployments/states.ts'
import type { Digest } from '../oci/digest.ts'
import { type Mood, State } from './elements.tsx'
import { UNIT_MOODS } from './followers.tsx'

/** The state of a host, and of an active one whether it calls. */
export type HostWord = 'online' | 'offline' | 'pending' | 'revoked'

const MOODS: Readonly<Record<HostWord, Mood>> = {
  online: 'good',
  offline: 'bad',
  pending: 'busy',
  revoked: 'idle',
}

/** The state of a host, as a sign and a word. */
export function HostStateWord({ word }: { word: HostWord }) {
  return <State mood={MOODS[word]}>{word}</State>
}

/** The name of a host: a link for those who may see its page. */
export function HostName({ name, path }: { name: string; path: string | undefined }) {
  return <>{path === undefined ? name : <a href={path}>{name}</a>}</>
}

/** Facts that say whether a unit runs what it should. */
export type UnitCondition = {
  readonly state: UnitState
  /** The digest of the image that it should run. Null: it waits for the first. */
  readonly grantedDigest: Digest | null
  /** The last digest that was healthy there. */
  readonly goodDigest: Digest | null
}

/** True when a unit is healthy with the image that it should run. */
export function runsWhatItShould({ state, grantedDigest, goodDigest }: UnitCondition): boolean {
  return state === 'healthy' && (grantedDigest === null || grantedDigest === goodDigest)
}

/**
 * The state of a unit. `healthy` is said of the image that it should run only. `isOnline`: false for the unit of a host that does
 * not call, whose state is the last that is known.
 */
export function UnitConditionWord({ unit, isOnline }: { unit: UnitCondition; isOnline: boolean }) {
  const isBehind = unit.state === 'healthy' && !runsWhatItShould(unit)
  const word = isBehind ? 'earlier image' : unit.state
  if (!isOnline) return <State mood="idle">{`was ${word}`}</State>
  return <State mood={isBehind ? 'busy' : UNIT_MOODS[unit.state]}>{word}</State>
}

/** Labels that a list shows of one host. */
const LABELS_SHOWN = 4

/** Labels as `site=nantes`, and how many more there are. */
export function LabelList({ labels }: { labels: Readonly<Record<string, string>> }) {
  const all = Object.entries(labels)
  const more = all.length - LABELS_SHOWN
  if (all.length === 0) return null
  return (
    <ul class="plain">
      {all.slice(0, LABELS_SHOWN).map(([name, value]) => (
        <li key={name}>{`${name}=${value}`}</li>
      ))}
      {more > 0 ? <li class="faint">{`${more} more`}</li> : null}
    </ul>
  )
}
