import { setTimeout as delay } from 'node:timers/promises'
import { isObject } from '../oci/descriptor.ts'
import type { Repository } from '../oci/reference.ts'
import { RegistryResponseError, RegistryUnreachableError } from './errors.ts'
import type { Polled, RegistryApi } from './registry-api.ts'

/** How a tag's move reaches the units that follow it: spec/openapi.yaml, Deployment. */
export type Deployment = {
  readonly id: string
  readonly repository: string
  readonly tag: string
  /** Counts the deployments of the tag. */
  readonly number: number
  readonly digest: string
  readonly previous: string | null
  readonly kind: string
  readonly state: string
  readonly reason: string | null
  readonly createdAt: string
  readonly finishedAt: string | null
  readonly counts: Readonly<Record<CountName, number>>
  /** Undefined for a login without rights to see hosts. */
  readonly targets?: readonly DeploymentTarget[]
}

/** One unit in a deployment. */
export type DeploymentTarget = {
  readonly host: string
  readonly unit: string
  readonly state: string
  /** When it came into this state. */
  readonly since: string
  readonly settledAt: string | null
  readonly exit?: { readonly code: number; readonly meaning: string | null } | null
  readonly reason: string | null
  readonly message: string | null
  /** The last lines that the unikernel printed. */
  readonly log?: string | readonly string[] | null
}

const COUNT_NAMES = [
  'waiting',
  'inFlight',
  'healthy',
  'settled',
  'failed',
  'refused',
  'offline',
  'skipped',
  'of',
] as const
type CountName = (typeof COUNT_NAMES)[number]

export type DeploymentAction = 'pause' | 'resume' | 'cancel' | 'retry'

/** A tag, and optionally the digest that it was moved to. A digest may be shortened. */
export type DeployedTag = {
  readonly repository: Repository
  readonly tag: string
  readonly digest?: string | undefined
}

export const DEPLOYMENTS = 'the deployments'
const DEPLOYMENT = 'the deployment'
/** How long a request waits for a change. */
const WAIT_SECONDS = 25
/** The time beyond that in which an answer must come. */
const LATE_SECONDS_MAX = 15
/** A deployment to many hosts changes more often than anybody reads. */
const POLL_EVERY_MILLISECONDS_MIN = 100
/** The same behind a proxy that removes ETags. */
const UNVERSIONED_EVERY_MILLISECONDS = 1000
const FIRST_WAIT_MILLISECONDS = 500
const WAIT_MILLISECONDS_MAX = 10_000
const DOUBLINGS_MAX = 5
const TRANSIENT: ReadonlySet<number> = new Set([408, 425, 429])
/** How many deployments of a tag are searched for a shortened digest. */
const SEARCHED_MAX = 100

/** The path of a deployment. */
export function deploymentPath(id: string): string {
  return `/api/v1/deployments/${encodeURIComponent(id)}`
}

/** The path of the deployments of a repository. */
export function deploymentsPath(repository: Repository): string {
  return `/api/v1/repositories/${repository}/deployments`
}

/** Finds a deployment with its targets. Throws as RegistryApi. */
export async function findDeployment(api: RegistryApi, id: string): Promise<Deployment> {
  return parseDeployment(await api.find(deploymentPath(id), DEPLOYMENT))
}

/** Finds the newest deployment of a tag; undefined when nobody followed it. Throws as RegistryApi. */
export async function findNewestDeployment(
  api: RegistryApi,
  { repository, tag, digest }: DeployedTag,
): Promise<Deployment | undefined> {
  const limit = digest === undefined ? 1 : SEARCHED_MAX
  const query = new URLSearchParams({ tag, n: String(limit) })
  const path = `${deploymentsPath(repository)}?${query}`
  const found = await api.list(path, 'deployments', DEPLOYMENTS, limit)
  return found.map(parseDeployment).find((one) => one.digest.startsWith(digest ?? ''))
}

/** Changes a deployment. `host`: retries only on this host. Returns it, or the new one after a retry. */
export async function changeDeployment(
  api: RegistryApi,
  id: string,
  action: DeploymentAction,
  host?: string,
): Promise<Deployment> {
  const query = host === undefined ? '' : `?${new URLSearchParams({ host })}`
  const path = `${deploymentPath(id)}/${action}${query}`
  return parseDeployment(await api.send('POST', path, `to ${action} the deployment`, undefined))
}

export type FollowOptions = {
  /** Ends the following: its reason is thrown. */
  readonly signal: AbortSignal
  /** Called once when the registry does not answer, with the reason. */
  onOutage(reason: string): void
  /** Called when it answers again. */
  onReturn(): void
}

/**
 * Yields a deployment at once, and again after each change. Outages of the registry are waited for, for as long as the
 * signal allows. Throws RegistryResponseError when the registry refuses, and the reason of the signal.
 */
export async function* followDeployment(
  api: RegistryApi,
  path: string,
  { signal, onOutage, onReturn }: FollowOptions,
): AsyncGenerator<Deployment> {
  let failures = 0
  let etag: string | undefined
  while (!signal.aborted) {
    let polled: Polled | undefined
    try {
      polled = await pollOnce(api, path, etag, signal)
    } catch (error) {
      if (signal.aborted || !isOutage(error)) throw signal.aborted ? signal.reason : error
      if (failures === 0) onOutage(error.message)
      failures += 1
      await delay(waitAfter(error, failures), undefined, { signal }).catch(() => {})
      continue
    }
    if (failures > 0) onReturn()
    failures = 0
    if (polled === undefined) continue
    etag = polled.etag
    yield parseDeployment(polled.value)
    const pause = etag === undefined ? UNVERSIONED_EVERY_MILLISECONDS : POLL_EVERY_MILLISECONDS_MIN
    await delay(pause, undefined, { signal }).catch(() => {})
  }
  throw signal.reason
}

function pollOnce(
  api: RegistryApi,
  path: string,
  etag: string | undefined,
  signal: AbortSignal,
): Promise<Polled | undefined> {
  // A connection that was cut without a word would be waited for much longer.
  const late = AbortSignal.timeout((WAIT_SECONDS + LATE_SECONDS_MAX) * 1000)
  // Without an ETag the answer comes at once.
  const query = etag === undefined ? '' : `?wait=${WAIT_SECONDS}`
  return api.poll(`${path}${query}`, DEPLOYMENT, etag, AbortSignal.any([signal, late]))
}

function isOutage(error: unknown): error is RegistryResponseError | RegistryUnreachableError {
  if (error instanceof RegistryUnreachableError) return true
  if (!(error instanceof RegistryResponseError)) return false
  return TRANSIENT.has(error.status) || error.status >= 500
}

function waitAfter(error: RegistryResponseError | RegistryUnreachableError, failures: number) {
  const asked = error instanceof RegistryResponseError ? error.retryAfterSeconds : undefined
  const grown = FIRST_WAIT_MILLISECONDS * 2 ** Math.min(failures - 1, DOUBLINGS_MAX)
  const wait = Math.min(asked === undefined ? grown : asked * 1000, WAIT_MILLISECONDS_MAX)
  // Jitter: many commands that lost the registry together should not return together.
  return wait * (0.75 + Math.random() / 2)
}

/** Checks the parts of an answer that are used. Throws RegistryResponseError for another answer. */
export function parseDeployment(value: unknown): Deployment {
  if (isDeployment(value)) return value
  throw new RegistryResponseError(
    'the registry does not answer like Rookery: the answer is no deployment; is it another registry?',
    { status: 502 },
  )
}

function isDeployment(value: unknown): value is Deployment {
  if (!isObject(value)) return false
  const { number, counts, targets = [] } = value
  const texts = [value.id, value.repository, value.tag, value.digest, value.state, value.createdAt]
  if (!texts.every((text) => typeof text === 'string') || typeof number !== 'number') return false
  if (!isObject(counts) || !COUNT_NAMES.every((name) => typeof counts[name] === 'number')) {
    return false
  }
  return Array.isArray(targets) && targets.every(isTarget)
}

function isTarget(value: unknown): value is DeploymentTarget {
  if (!isObject(value)) return false
  return [value.host, value.unit, value.state, value.since].every(
    (text) => typeof text === 'string',
  )
}
