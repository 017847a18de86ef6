import { type Deployment, followDeployment } from '../../client/deployments.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
import { describeDefault, parsed, withDefault } from '../command.ts'
import { durationOption, durationText } from '../durations.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { type DeploymentDisplay, displayFor } from './deployment-display.ts'
import { type Aim, outcomeOf, statusOf, worstStatus } from './deployment-outcome.ts'
import { nameOf } from './deployment-text.ts'

const WAIT_SECONDS_MAX = 86_400
const HOSTS_MAX = 100_000
// Longer than the five minutes after which a host that says nothing is overdue.
const WAIT_SECONDS_DEFAULT = 600

/** The options of commands that wait for a deployment. */
export const WAIT_OPTIONS = {
  waitTimeout: withDefault(
    durationOption('wait at most so long', WAIT_SECONDS_MAX),
    durationText(WAIT_SECONDS_DEFAULT),
  ),
  requireHosts: describeDefault(
    parsed('N', 'fail unless N hosts are healthy, or all', parseHosts),
    'those online',
  ),
}

function parseHosts(flag: string, text: string): number | 'all' {
  if (text === 'all') return text
  const hosts = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (hosts >= 1 && hosts <= HOSTS_MAX) return hosts
  throw new UsageError(`${flag} must be all, or a number from 1 to ${HOSTS_MAX}, not "${text}"`)
}

export type Wait = Aim & {
  readonly seconds: number
  readonly json: boolean
}

/**
 * Waits for deployments by their paths, and shows them. Returns the exit status. Throws CommandError when it is interrupted,
 * and as followDeployment.
 */
export async function waitForDeployments(
  api: RegistryApi,
  paths: readonly string[],
  wait: Wait,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const display = displayFor(wait.json, environment)
  const interrupted = new AbortController()
  const interrupt = () => interrupted.abort(new Interrupted())
  const signals = ['SIGINT', 'SIGTERM'] as const
  for (const name of signals) process.once(name, interrupt)
  const late = AbortSignal.timeout(wait.seconds * 1000)
  const signal = AbortSignal.any([interrupted.signal, late])
  try {
    const statuses = paths.map((path) => waitForOne(api, path, wait, display, signal))
    return worstStatus(await Promise.all(statuses))
  } finally {
    // Ends the others when one has failed.
    interrupted.abort()
    for (const name of signals) process.removeListener(name, interrupt)
    display.close()
  }
}

class Interrupted extends Error {
  override readonly name = 'Interrupted'
}

async function waitForOne(
  api: RegistryApi,
  path: string,
  wait: Wait,
  display: DeploymentDisplay,
  signal: AbortSignal,
): Promise<number> {
  let last: Deployment | undefined
  const end = (deployment: Deployment, outcome: Parameters<DeploymentDisplay['end']>[1]) => {
    const status = statusOf(outcome, wait.hosts !== undefined)
    display.end(deployment, outcome, status)
    return status
  }
  const following = followDeployment(api, path, {
    signal,
    onOutage: (reason) => display.note(`${reason}; waiting until the registry answers`),
    onReturn: () => display.note('the registry answers again'),
  })
  try {
    for await (const deployment of following) {
      if (deployment.state === 'paused' && last?.state !== 'paused')
        display.note(pausedNote(deployment))
      last = deployment
      display.show(deployment)
      const outcome = outcomeOf(deployment, wait)
      if (outcome !== undefined) return end(deployment, outcome)
    }
  } catch (error) {
    if (error instanceof Interrupted) throw stopped(last)
    if (!isTimeout(error)) throw error
    if (last !== undefined) return end(last, 'timed-out')
    throw new CommandError('the registry did not answer before the time ran out', {
      status: STATUS.timedOut,
    })
  }
  throw new Error('a deployment was followed without an end')
}

function pausedNote(deployment: Deployment): string {
  const { repository, tag, reason } = deployment
  const why = reason ? ` (${reason})` : ''
  return `${nameOf(deployment)} is paused${why}; continue it with: rookery deploy resume HOST/${repository}:${tag}`
}

function stopped(last: Deployment | undefined): CommandError {
  const name = last === undefined ? 'the deployment' : nameOf(last)
  return new CommandError(
    `stopped waiting; ${name} goes on: see it with rookery deploy watch, end it with rookery deploy cancel`,
    { status: STATUS.stopped },
  )
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.code === DOMException.TIMEOUT_ERR
}
