import type { Deployment, DeploymentTarget } from '../../client/deployments.ts'
import { utcText, visible } from '../printing.ts'
import { healthyUnits, type Outcome } from './deployment-outcome.ts'

export const TARGET_HEADINGS = ['HOST', 'UNIT', 'STATE', 'SINCE', 'REASON']
const FAILURES: ReadonlySet<string> = new Set(['failed', 'rolled-back', 'refused', 'overdue'])
const LOG_LINES_SHOWN_MAX = 10
const FAILURES_SHOWN_MAX = 20
const OFFLINE_SHOWN_MAX = 20
const REASON_CHARACTERS_MAX = 300
/** A narrower terminal shows times without their date. */
const FULL_COLUMNS = 70
/** Between the four columns before the reason. */
const GAPS_WIDTH = 6
const NAME_CHARACTERS_MIN = 4

/** `deployment 12 of builds/www:live`. */
export function nameOf({ number, repository, tag }: Deployment): string {
  return visible(`deployment ${number} of ${repository}:${tag}`)
}

/** One line about a deployment: name, state and counts. */
export function headLine(deployment: Deployment): string {
  const { state, reason } = deployment
  const shown = reason ? `: ${short(reason)}` : ''
  return `${nameOf(deployment)}  ${visible(state)}  ${countsText(deployment)}${shown}`
}

/** `2 of 3 healthy, 1 in flight`. */
export function countsText(deployment: Deployment): string {
  const { of, inFlight, waiting, failed, refused, offline, skipped } = deployment.counts
  const others: readonly (readonly [number, string])[] = [
    [inFlight, 'in flight'],
    [waiting, 'waiting'],
    [failed, 'failed'],
    [refused, 'refused'],
    [offline, 'offline'],
    [skipped, 'skipped'],
  ]
  const shown = others.filter(([count]) => count > 0).map(([count, word]) => `${count} ${word}`)
  return [`${healthyUnits(deployment)} of ${of} healthy`, ...shown].join(', ')
}

/** The cells of a target below TARGET_HEADINGS. */
export function targetCells(target: DeploymentTarget): string[] {
  const { host, unit, since, settledAt } = target
  const state = target.state === 'healthy' && settledAt ? 'settled' : target.state
  return [host, unit, state, utcText(since), reasonText(target)]
}

/** The same on a terminal: names are shortened, so that state and time are visible. */
export function fittedCells(targets: readonly DeploymentTarget[], columns: number): string[][] {
  const cells = targets.map((target) => {
    const [host = '', unit = '', state = '', since = '', reason = ''] =
      targetCells(target).map(visible)
    return { host, unit, state, since: columns < FULL_COLUMNS ? since.slice(11) : since, reason }
  })
  const width = (name: 'host' | 'unit' | 'state' | 'since') =>
    Math.max(name.length, ...cells.map((one) => one[name].length))
  const room = columns - 1 - GAPS_WIDTH - width('state') - width('since')
  const unitRoom = Math.min(width('unit'), Math.max(NAME_CHARACTERS_MIN, Math.floor(room / 3)))
  const hostRoom = Math.max(NAME_CHARACTERS_MIN, room - unitRoom)
  return cells.map(({ host, unit, ...rest }) => [
    ...[shortened(host, hostRoom), shortened(unit, unitRoom)],
    ...[rest.state, rest.since, rest.reason],
  ])
}

/** Leaves out the middle of a name: those of a site differ at one of their ends. */
function shortened(name: string, room: number): string {
  if (name.length <= room) return name
  const end = Math.floor((room - 1) / 2)
  return `${name.slice(0, room - 1 - end)}…${name.slice(name.length - end)}`
}

/** One line about a target, without a terminal. */
export function targetLine(target: DeploymentTarget): string {
  const [host, unit, state, since, reason] = targetCells(target).map(visible)
  return [since, `${host}/${unit}`, state, reason].filter(Boolean).join('  ')
}

/** Why a target is in its state: reason, exit code in words, message. */
function reasonText({ reason, exit, message }: DeploymentTarget): string {
  const ended = exit ? `exit ${exit.code}${exit.meaning ? ` (${exit.meaning})` : ''}` : ''
  return short([reason, ended, message].filter(Boolean).join(': '))
}

/** The lines at the end of waiting: failures with their logs, offline hosts, and the outcome in a sentence. */
export function endLines(deployment: Deployment, outcome: Outcome): string[] {
  const { targets = [] } = deployment
  return [...failureLines(deployment), ...offlineLines(targets), outcomeLine(deployment, outcome)]
}

/** Each failed target, with the last lines that it printed. */
function failureLines({ targets, counts }: Deployment): string[] {
  if (targets === undefined) {
    const failures = counts.failed + counts.refused
    return failures === 0 ? [] : ['Only a login that may push to the repository sees why.']
  }
  const failed = targets.filter(({ state }) => FAILURES.has(state))
  const lines = failed.slice(0, FAILURES_SHOWN_MAX).flatMap((target) => {
    const reason = reasonText(target)
    const head = `${target.host}/${target.unit}: ${target.state}${reason === '' ? '' : `: ${reason}`}`
    return [visible(head), ...logLines(target).map((line) => `  | ${visible(line)}`)]
  })
  return [...lines, ...othersLine(failed.length - FAILURES_SHOWN_MAX, 'failed')]
}

function logLines({ log }: DeploymentTarget): string[] {
  if (!log) return []
  const lines = typeof log === 'string' ? log.replace(/\r?\n$/, '').split(/\r?\n/) : log
  return lines.slice(-LOG_LINES_SHOWN_MAX).map(String)
}

function offlineLines(targets: readonly DeploymentTarget[]): string[] {
  const hosts = [
    ...new Set(targets.filter(({ state }) => state === 'offline').map(({ host }) => host)),
  ]
  if (hosts.length === 0) return []
  const shown = hosts.slice(0, OFFLINE_SHOWN_MAX).join(', ')
  return [
    visible(`offline: ${shown}; updated when they return`),
    ...othersLine(hosts.length - OFFLINE_SHOWN_MAX, 'offline'),
  ]
}

function othersLine(count: number, word: string): string[] {
  return count > 0 ? [`and ${count} others ${word}`] : []
}

function outcomeLine(deployment: Deployment, outcome: Outcome): string {
  const [name, counts] = [nameOf(deployment), countsText(deployment)]
  const reason = deployment.reason ? `; ${short(deployment.reason)}` : ''
  switch (outcome) {
    case 'healthy':
    case 'settled':
      return `${name} is ${outcome}: ${counts}`
    case 'superseded':
      return `${name} was superseded by a newer one: ${counts}${reason}`
    case 'incomplete':
      return `${name} has fewer healthy hosts than required: ${counts}`
    case 'timed-out':
      return `${name} is still ${visible(deployment.state)}, and goes on: ${counts}${reason}`
    default:
      return `${name} is ${visible(deployment.state)}: ${counts}${reason}`
  }
}

/** The line about a tag that no host follows. */
export function unfollowedLine(repository: string, tag: string): string {
  return `no host follows ${repository}:${tag}: there is nothing to wait for`
}

function short(text: string): string {
  const line = visible(text.replace(/\s+/g, ' ').trim())
  return line.length > REASON_CHARACTERS_MAX ? `${line.slice(0, REASON_CHARACTERS_MAX)}…` : line
}
