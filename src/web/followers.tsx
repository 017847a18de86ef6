import type { UnitState } from '../deployments/states.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { DataTable, type Mood, ShortDigest, State } from './elements.tsx'
import { kernelPath, tagPath } from './paths.ts'
import { counted } from './texts.ts'

/** Units that follow a tag and are in the same state. */
export type FollowerItem = {
  readonly tag: Tag
  readonly state: UnitState
  readonly kernel: Digest | null
  readonly count: number
}

/** How good the states of units are. */
export const UNIT_MOODS: Readonly<Record<UnitState, Mood>> = {
  absent: 'idle',
  fetching: 'busy',
  starting: 'busy',
  checking: 'busy',
  healthy: 'good',
  failed: 'bad',
  'rolled-back': 'bad',
  stopped: 'idle',
}

/** The state of a unit. */
export function UnitStateWord({ state }: { state: UnitState }) {
  return <State mood={UNIT_MOODS[state]}>{state}</State>
}

/** A table of the units that follow tags of a repository. `showsTag`: false when they all follow one. */
export function FollowerTable({
  repository,
  followers,
  showsTag = true,
}: {
  repository: Repository
  followers: readonly FollowerItem[]
  showsTag?: boolean
}) {
  return (
    <DataTable
      caption="Units that follow a tag"
      columns={[...(showsTag ? ['Tag'] : []), 'Units', 'State', 'Kernel']}
      rows={followers.map(({ tag, state, kernel, count }) => ({
        key: `${tag} ${state} ${kernel}`,
        cells: [
          ...(showsTag ? [<a href={tagPath(repository, tag)}>{tag}</a>] : []),
          counted(count, 'unit'),
          <UnitStateWord state={state} />,
          kernel === null ? (
            <span class="faint">none</span>
          ) : (
            <a href={kernelPath(kernel)}>
              <ShortDigest digest={kernel} />
            </a>
          ),
        ],
      }))}
    />
  )
}
