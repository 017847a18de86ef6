import type { JournalLine } from './chaos-agent.ts'
import type { FeedEvent } from './chaos-feed.ts'
import { CLOCK_MILLISECONDS, type DownWithin, isReportedFailure } from './chaos-truth.ts'

/** A run as `GET /api/v1/runs` has it, with times in milliseconds since 1970. */
export type Run = {
  readonly host: string
  readonly unit: string
  readonly kernel: string
  readonly from: number
  readonly to: number | null
}

/** The journal of one unit of a host, and everything that the registry says of it. */
export type UnitStory = {
  readonly host: string
  readonly unit: string
  readonly journal: readonly JournalLine[]
  readonly events: readonly FeedEvent[]
  readonly runs: readonly Run[]
  /** True for a kernel that ends by itself, or that was killed there before. */
  mayFail(kernel: string, at: number): boolean
  readonly downWithin: DownWithin
}

/** A report may be stored so long after what it says, while the registry is up. */
const REPORT_MILLISECONDS_MAX = 10_000

/** Compares what the registry says of a unit with the journal that its kernels have kept. */
export function problemsOfUnit(story: UnitStory): string[] {
  const { host, unit } = story
  const own = story.events.filter(
    ({ type, data }) =>
      type === 'deployment.target.changed' && data.host === host && data.unit === unit,
  )
  const problems = [
    ...own.flatMap((event) => problemsOfEvent(story, event)),
    ...problemsOfStarts(story, own),
    ...problemsOfRuns(story),
  ]
  return problems.map((problem) => `${unit} on ${host}: ${problem}`)
}

function problemsOfEvent(
  { journal, mayFail }: UnitStory,
  { at, sequence, data }: FeedEvent,
): string[] {
  const { state, settled, kernel, tag, number } = data
  const where = `event ${sequence} (${tag}#${number}) says ${state}`
  if (kernel === null) return [`${where} of no kernel`]
  if (isReportedFailure(state)) {
    return mayFail(kernel, at) ? [] : [`${where}, and the kernel is good: ${data.reason}`]
  }
  if (state !== 'healthy' || settled) return []
  const until = at + CLOCK_MILLISECONDS
  const before = journal.filter((line) => line.at <= until)
  const started = before.findLast(({ event }) => event === 'started')
  if (started?.kernel !== kernel) return [`${where}, and ${started?.kernel} was started last`]
  // Another process of the kernel may have passed it: a supervisor starts a kernel again that ended.
  const other = before.findLastIndex((line) => line.event === 'started' && line.kernel !== kernel)
  const isChecked = before.slice(other + 1).some(({ event }) => event === 'checked')
  return isChecked ? [] : [`${where}, and no check had passed`]
}

/** Every kernel that was started was granted before, or had succeeded elsewhere. */
function problemsOfStarts({ journal, events }: UnitStory, own: readonly FeedEvent[]): string[] {
  const allowed = new Map<string, number>()
  const allow = (kernel: string | null, at: number) => {
    if (kernel !== null) allowed.set(kernel, Math.min(at, allowed.get(kernel) ?? at))
  }
  for (const { at, data } of own) {
    if (['granted', 'healthy'].includes(data.state)) allow(data.kernel, at)
  }
  const kernels = new Map(events.map(({ data }) => [data.digest, data.kernel]))
  for (const { type, data } of events) {
    if (type === 'deployment.target.changed') kernels.set(data.digest, data.kernel)
  }
  for (const { type, at, data } of events) {
    const isGood = type === 'deployment.finished' && data.state === 'succeeded'
    if (isGood) allow(kernels.get(data.digest) ?? null, at)
  }
  return journal
    .filter(({ event }) => event === 'started')
    .filter(({ kernel, at }) => (allowed.get(kernel) ?? Infinity) > at + CLOCK_MILLISECONDS)
    .map(({ kernel, at }) => `${kernel} was started at ${at} without a grant`)
}

function problemsOfRuns({ runs, journal, downWithin }: UnitStory): string[] {
  const problems: string[] = []
  const sorted = [...runs].sort((a, b) => a.from - b.from)
  for (const [index, { kernel, from, to }] of sorted.entries()) {
    const next = sorted[index + 1]
    const run = `the run of ${kernel} from ${from} to ${to}`
    if (next !== undefined && (to === null || to > next.from)) problems.push(`${run} has no end`)
    const lives = livesOf(journal, kernel)
    const isTrue = lives.some(([start, end]) => {
      const late = from - end - downWithin(end, from)
      return start <= from + CLOCK_MILLISECONDS && late <= REPORT_MILLISECONDS_MAX
    })
    if (!isTrue) problems.push(`${run}: it lived ${JSON.stringify(lives)}`)
  }
  return problems
}

/** When a kernel ran: its processes from their start until their end, or the start of the next one. */
function livesOf(journal: readonly JournalLine[], kernel: string): [number, number][] {
  return journal.flatMap((line, index): [number, number][] => {
    if (line.event !== 'started' || line.kernel !== kernel) return []
    const after = journal.slice(index + 1)
    const end = after.find(
      ({ event, pid }) =>
        event === 'started' || (pid === line.pid && ['stopped', 'ended'].includes(event)),
    )
    return [[line.at, end?.at ?? Number.POSITIVE_INFINITY]]
  })
}
