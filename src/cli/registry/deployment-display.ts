import type { Deployment, DeploymentTarget } from '../../client/deployments.ts'
import { printJson, printLines, table, utcText, visible } from '../printing.ts'
import type { Outcome } from './deployment-outcome.ts'
import {
  countsText,
  endLines,
  fittedCells,
  headLine,
  nameOf,
  TARGET_HEADINGS,
  targetCells,
  targetLine,
} from './deployment-text.ts'
import { LiveLines, type TallTerminal } from './live-lines.ts'

/** Shows deployments while they are waited for. */
export type DeploymentDisplay = {
  show(deployment: Deployment): void
  end(deployment: Deployment, outcome: Outcome, status: number): void
  /** Shows a line about the waiting itself. */
  note(text: string): void
  close(): void
}

/** A table that is redrawn on a terminal, one line a target, and the end on standard output. */
export class LiveDisplay implements DeploymentDisplay {
  readonly #deployments = new Map<string, Deployment>()
  readonly #lines: LiveLines
  readonly #print: (lines: readonly string[]) => void

  constructor(
    terminal: TallTerminal,
    print: (lines: readonly string[]) => void = printLines,
    now: () => number = Date.now,
  ) {
    this.#print = print
    this.#lines = new LiveLines(
      terminal,
      (rows, columns) => liveLines([...this.#deployments.values()], rows, columns),
      now,
    )
  }

  show(deployment: Deployment): void {
    this.#deployments.set(deployment.id, deployment)
    this.#lines.draw()
  }

  end(deployment: Deployment, outcome: Outcome): void {
    this.#deployments.delete(deployment.id)
    this.#lines.clear()
    this.#print([...deploymentTable(deployment), ...endLines(deployment, outcome)])
    if (this.#deployments.size > 0) this.#lines.draw()
  }

  note(text: string): void {
    this.#lines.note(text)
  }

  close(): void {
    this.#lines.clear()
  }
}

/** A line for each change. */
export class LineDisplay implements DeploymentDisplay {
  readonly #seen = new Map<string, string>()
  readonly #print: (lines: readonly string[]) => void

  constructor(print: (lines: readonly string[]) => void = printLines) {
    this.#print = print
  }

  show(deployment: Deployment): void {
    const { id, state, targets } = deployment
    // Without targets, the counts are all that changes.
    const head = targets === undefined ? `${state} ${countsText(deployment)}` : state
    if (this.#isNew(id, head)) this.#print([headLine(deployment)])
    const changed = (targets ?? []).filter((target) =>
      this.#isNew(`${id} ${target.host} ${target.unit}`, targetLine(target)),
    )
    this.#print(changed.map(targetLine))
  }

  end(deployment: Deployment, outcome: Outcome): void {
    this.#print(endLines(deployment, outcome))
  }

  note(text: string): void {
    process.stderr.write(`rookery: ${visible(text)}\n`)
  }

  close(): void {}

  #isNew(key: string, text: string): boolean {
    if (this.#seen.get(key) === text) return false
    this.#seen.set(key, text)
    return true
  }
}

/** A JSON object for each change, and one for each outcome. */
export class JsonDisplay implements DeploymentDisplay {
  show(deployment: Deployment): void {
    printJson({ deployment })
  }

  end({ id, repository, tag, number }: Deployment, outcome: Outcome, status: number): void {
    printJson({ outcome, status, repository, tag, deployment: { id, number } })
  }

  note(text: string): void {
    process.stderr.write(`rookery: ${visible(text)}\n`)
  }

  close(): void {}
}

/** Chooses a display: JSON when asked for, a table on a terminal, and lines elsewhere. */
export function displayFor(
  json: boolean,
  environment: NodeJS.ProcessEnv,
  terminal: TallTerminal = process.stderr,
): DeploymentDisplay {
  if (json) return new JsonDisplay()
  const isDumb = environment.TERM === 'dumb'
  return terminal.isTTY && !isDumb ? new LiveDisplay(terminal) : new LineDisplay()
}

/** The targets of a deployment as a table; empty when they are hidden. */
export function deploymentTable({ targets = [] }: Deployment): string[] {
  return targets.length === 0 ? [] : table(TARGET_HEADINGS, targets.map(targetCells))
}

/**
 * The lines of several deployments within `rows`. The targets that need attention are shown first when all do not fit. Names
 * are shortened where state and time would not fit into `columns`.
 */
export function liveLines(
  deployments: readonly Deployment[],
  rows: number,
  columns: number,
): string[] {
  const rowsEach = Math.max(1, Math.floor(rows / Math.max(1, deployments.length)))
  return deployments.flatMap((deployment) => {
    const { targets = [] } = deployment
    const head = headLine(deployment)
    // The head, the headings, and the line that counts the others.
    const room = rowsEach - (targets.length + 2 > rowsEach ? 3 : 2)
    if (targets.length === 0 || room < 1) return [head]
    const shown = mostUrgent(targets, room)
    const others = targets.length - shown.length
    return [
      head,
      ...table(TARGET_HEADINGS, fittedCells(shown, columns)),
      ...(others === 0 ? [] : [`and ${others} others`]),
    ]
  })
}

const URGENCY: readonly string[] = [
  ...['failed', 'rolled-back', 'refused', 'overdue'],
  ...['checking', 'starting', 'fetching', 'granted'],
  ...['offline', 'waiting', 'healthy', 'skipped'],
]

function mostUrgent(targets: readonly DeploymentTarget[], count: number): DeploymentTarget[] {
  if (targets.length <= count) return [...targets]
  const urgency = ({ state }: DeploymentTarget) => URGENCY.indexOf(state)
  return [...targets].sort((one, other) => urgency(one) - urgency(other)).slice(0, count)
}

/** The lines of `rookery deploy status`. */
export function statusLines(deployment: Deployment): string[] {
  const { id, digest, previous, kind, createdAt, finishedAt, state, reason } = deployment
  const rows: [string, string | null][] = [
    ['deployment', id],
    ['tag', `${deployment.repository}:${deployment.tag}, ${nameOf(deployment).split(' of ')[0]}`],
    ['kind', kind],
    ['digest', digest],
    ['previous', previous],
    ['state', reason ? `${state}: ${reason}` : state],
    ['units', countsText(deployment)],
    ['created', utcText(createdAt)],
    ['finished', finishedAt && utcText(finishedAt)],
  ]
  const heads = rows.flatMap(([name, text]) =>
    text ? [`${name.padEnd(LABEL_WIDTH)}${visible(text)}`] : [],
  )
  const targets = deploymentTable(deployment)
  return [...heads, ...(targets.length === 0 ? [] : ['', ...targets])]
}

const LABEL_WIDTH = 12
