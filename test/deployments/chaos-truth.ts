import type { Rollout } from '../../src/deployments/rollout.ts'
import { FAILURES, IN_FLIGHT } from '../../src/deployments/states.ts'
import type { FeedEvent } from './chaos-feed.ts'

/** The rollout that a deployment was made with, by its id. */
export type RolloutOf = (deployment: string) => Rollout | undefined

/** Returns for how many milliseconds of a time no server or no Postgres ran. */
export type DownWithin = (from: number, to: number) => number

/** Clocks of processes on one machine, and the time between the reading and the writing of one. */
export const CLOCK_MILLISECONDS = 50
/** A step of a deployment comes at the latest so long after its time, on a busy machine. */
const LATE_SECONDS_MAX = 15

/** Replays the history of one target. */
type TargetHistory = {
  state: string
  settled: boolean
  /** When it came in flight; undefined: it is not. */
  inFlightSince: number | undefined
  /** True for a unit that was granted its place in the batch, and not one that came back to it. */
  isInBatch: boolean
}

const ENDED = ['failed', 'rolled-back', 'refused', 'skipped']

/**
 * Replays the events of a repository, and returns what they say that must not be: a gap, an event twice, a batch with more
 * units than its rollout allows, a unit in flight long after its deadline.
 */
export function problemsOfFeed(
  events: readonly FeedEvent[],
  rolloutOf: RolloutOf,
  downWithin: DownWithin,
): string[] {
  const problems: string[] = []
  const targets = new Map<string, Map<string, TargetHistory>>()
  const ids = new Set<string>()
  const ended = new Map<string, string>()
  let sequence = 0
  for (const { id, type, at, data, ...event } of events) {
    const where = `event ${event.sequence} (${type} of ${data.tag}#${data.number})`
    if (ids.has(id)) problems.push(`${where} is there twice`)
    ids.add(id)
    if (event.sequence !== sequence + 1) problems.push(`${where} follows ${sequence}`)
    sequence = event.sequence
    if (type === 'deployment.created') {
      if (targets.has(data.deployment)) problems.push(`${where}: it was created before`)
      targets.set(data.deployment, new Map())
    }
    if (!type.startsWith('deployment.')) continue
    const all = targets.get(data.deployment)
    if (all === undefined) {
      problems.push(`${where}: it was not created`)
      continue
    }
    if (type === 'deployment.updated' && ended.has(data.deployment)) {
      problems.push(`${where}: ${data.state} after its end`)
    }
    if (type === 'deployment.finished') {
      const end = ended.get(data.deployment)
      if (end !== undefined) problems.push(`${where}: it is ${data.state}, and was ${end}`)
      ended.set(data.deployment, data.state)
    }
    if (type !== 'deployment.target.changed') continue
    const rollout = rolloutOf(data.deployment)
    if (rollout === undefined) problems.push(`${where}: its deployment does not exist`)
    else
      problems.push(
        ...replay(all, rollout, at, data, downWithin).map((problem) => `${where}: ${problem}`),
      )
  }
  return problems
}

function replay(
  all: Map<string, TargetHistory>,
  rollout: Rollout,
  at: number,
  { host, unit, state, settled }: FeedEvent['data'],
  downWithin: DownWithin,
): string[] {
  const problems: string[] = []
  const name = `${unit} on ${host}`
  const before = all.get(name) ?? {
    ...{ state: 'waiting', settled: false, inFlightSince: undefined, isInBatch: false },
  }
  if (before.state === state && before.settled === settled) {
    problems.push(`${name} is ${state} twice`)
  }
  if (ENDED.includes(before.state)) problems.push(`${name} is ${state} after ${before.state}`)
  if (before.settled) problems.push(`${name} is ${state} after it settled`)
  const isInFlight = IN_FLIGHT.some((one) => one === state)
  const isGrant = before.state === 'waiting' && (isInFlight || state === 'healthy')
  const isOccupying = isInFlight || (state === 'healthy' && !settled)
  const isReturn = ['offline', 'overdue'].includes(before.state)
  const { inFlightSince } = before
  if (inFlightSince !== undefined && !isInFlight) {
    const seconds = (at - inFlightSince - downWithin(inFlightSince, at)) / 1000
    if (seconds > rollout.deadlineSeconds + LATE_SECONDS_MAX) {
      problems.push(`${name} was in flight for ${seconds} s`)
    }
  }
  const since = isInFlight ? (inFlightSince ?? at) : undefined
  const isInBatch = isOccupying && (isGrant || (before.isInBatch && !isReturn))
  all.set(name, { state, settled, inFlightSince: since, isInBatch })
  if (isGrant) problems.push(...batchProblems(all, rollout))
  return problems
}

/** A canary has to settle before the batches begin. */
function batchProblems(all: ReadonlyMap<string, TargetHistory>, rollout: Rollout): string[] {
  const { canary, batch } = rollout
  if (typeof canary !== 'number') throw new Error('the rollouts of this test have numbers')
  const histories = [...all.values()]
  const occupied = histories.filter((one) => one.isInBatch).length
  const settled = histories.filter((one) => one.settled).length
  const allowed = settled < canary ? canary - settled : Number(batch ?? Number.POSITIVE_INFINITY)
  if (occupied <= allowed) return []
  const names = [...all].filter(([, one]) => one.isInBatch).map(([name]) => name)
  return [`${occupied} units are in flight, ${allowed} are allowed: ${names.join(', ')}`]
}

/** One position of a tag, newest first. */
export type Position = {
  readonly digest: string
  readonly previousDigest: string | null
  readonly reason: string
}

/** A deployment, as its events describe it. */
type Described = Pick<FeedEvent['data'], 'digest' | 'previousDigest' | 'kind' | 'state' | 'reason'>

/**
 * Compares the history of a tag with its deployments: it was moved back exactly for each deployment of the kind `rollback`,
 * and each failed deployment whose rollout says so was followed by one, unless the tag was moved before.
 */
export function problemsOfRollbacks(
  tag: string,
  history: readonly Position[],
  events: readonly FeedEvent[],
  rolloutOf: RolloutOf,
): string[] {
  const problems: string[] = []
  const described = new Map<number, Described & { id: string }>()
  for (const { type, data } of events) {
    if (!type.startsWith('deployment.') || data.tag !== tag || !data.deployment) continue
    if (type === 'deployment.target.changed') continue
    const { digest, previousDigest, kind, state, reason, deployment: id } = data
    described.set(data.number, { digest, previousDigest, kind, state, reason, id })
  }
  const moves = history.filter(({ reason }) => reason === 'rollback').reverse()
  const pair = (one: Position | Described) => `${one.previousDigest} to ${one.digest}`
  const rollbacks = [...described.values()].filter(({ kind }) => kind === 'rollback')
  if (rollbacks.map(pair).join() !== moves.map(pair).join()) {
    problems.push(`${tag} was rolled back by ${rollbacks.map(pair)}, but moved ${moves.map(pair)}`)
  }
  for (const [number, one] of described) {
    const next = described.get(number + 1)
    const mustMove = one.state === 'failed' && rolloutOf(one.id)?.onFailure === 'rollback'
    if (next?.kind === 'rollback' && !(mustMove && next.previousDigest === one.digest)) {
      problems.push(`${tag}#${number} is ${one.state}, and was rolled back`)
    }
    if (mustMove && next === undefined && one.previousDigest !== null) {
      problems.push(`${tag}#${number} failed, and was not rolled back`)
    }
  }
  return problems
}

/** True for the state of a target that counts as a failure that a host reported. */
export function isReportedFailure(state: string): boolean {
  return FAILURES.some((one) => one === state) && state !== 'overdue' && state !== 'refused'
}
