import { type Caller, maySeeActors, maySeeHosts } from '../../auth/access.ts'
import type {
  DeploymentRow,
  LogRow,
  TargetRow,
  WatchedDeployment,
} from '../../deployments/watch.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'

/** Formats a deployment for a caller who may see it: spec/openapi.yaml, Deployment. Only some callers see its targets. */
export function deploymentJson(
  deployment: DeploymentRow & { readonly targets?: readonly TargetRow[] },
  caller: Caller,
) {
  const { id, repository, tag, number, digest, previous, kind, state } = deployment
  const { rollout, createdAt, finishedAt, counts, targets } = deployment
  const actor = maySeeActors(caller, repository) ? deployment.actor : null
  // A reason names hosts and people.
  const seesHosts = maySeeHosts(caller, repository)
  const reason = seesHosts ? deployment.reason : null
  return {
    ...{ id, repository, tag, number, digest, previous, kind, state, reason, rollout, actor },
    ...{ createdAt, finishedAt, counts },
    ...(targets !== undefined && seesHosts ? { targets: targets.map(targetJson) } : {}),
  }
}

function targetJson(target: TargetRow) {
  const { host, unit, state, kernel, since, grantedAt, healthyAt, settledAt } = target
  const { exitCode, reason, message, log } = target
  return {
    ...{ host, unit, state, kernel, since, grantedAt, healthyAt, settledAt, reason, message },
    ...(exitCode === null ? {} : { exit: exitJson(exitCode, target.exitMeaning) }),
    ...(log === null ? {} : { log }),
  }
}

/** `meaning`: the words of the host, which knows how it started the kernel. */
function exitJson(code: number, meaning: string | null) {
  return { code, meaning: meaning ?? exitMeaning(code) }
}

/** Explains the exit code of a unikernel, as Albatross does; null for other codes. */
function exitMeaning(code: number): string | null {
  if (code === 0) return 'it ended by itself'
  if (code === 1) return 'an error of Solo5'
  if (code === 2) return 'an exception of OCaml'
  if (code >= 60 && code <= 63) return 'it ended before it started'
  if (code === 64) return 'an error in the arguments'
  return code === 255 ? 'it was aborted' : null
}

/** Formats a deployment as one line for scripts: spec/http-api.md, "Deployments". */
export function deploymentLine({ state, counts }: DeploymentRow): string {
  const { healthy, failed, refused, offline, of } = counts
  return `${state} healthy=${healthy} failed=${failed + refused} offline=${offline} of=${of}\n`
}

/** Formats what a kernel printed, for streams. */
export function logJson({ host, unit, at, text }: LogRow) {
  return { host, unit, at, text }
}

/** Text for a caller, and a tag that differs when it differs. */
export type ShownDeployment = { readonly body: string; readonly tag: Digest }

/** Requests that wait share a read, and most of them see the same of it. */
const shownBefore = new WeakMap<WatchedDeployment, Map<string, ShownDeployment>>()

/** Formats a deployment for a caller who may see it: as JSON, or as one line. */
export function showDeployment(
  deployment: WatchedDeployment,
  caller: Caller,
  asLine: boolean,
): ShownDeployment {
  const { repository } = deployment
  const sees = [maySeeHosts, maySeeActors].map((may) => may(caller, repository))
  const key = [asLine, ...sees].join(' ')
  const before = shownBefore.get(deployment) ?? new Map<string, ShownDeployment>()
  shownBefore.set(deployment, before)
  const present = before.get(key)
  if (present !== undefined) return present
  const body = asLine ? deploymentLine(deployment) : visibleJson(deploymentJson(deployment, caller))
  const shown = { body, tag: digestOf(Buffer.from(body)) }
  before.set(key, shown)
  return shown
}
