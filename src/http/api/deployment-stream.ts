import { type Caller, maySeeHosts } from '../../auth/access.ts'
import type { Looked, WatchedDeployment } from '../../deployments/watch.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import { EventStream } from '../event-stream.ts'
import type { PageCursors } from '../pages.ts'
import type { RouteContext } from '../route.ts'
import { abortedOnClose } from '../waiting.ts'
import { logJson, showDeployment } from './deployment-json.ts'
import {
  type DeploymentRouteDeps,
  requireDeployment,
  requireVisible,
} from './visible-deployment.ts'

const STREAM_MILLISECONDS_MAX = 3_600_000
/** Proxies close connections that are silent for a minute or less. */
const HEARTBEAT_MILLISECONDS = 15_000
/** A stream whose right was revoked ends after this time and the refresh of the list of revocations. */
const AUTHENTICATION_CHECK_MILLISECONDS = 2_000
/** Parts of logs between two looks at the deployment. */
const LOGS_AT_ONCE = 100

/** The place of a client in a stream: the tag of the deployment that it saw last, and the last part of a log. */
type Place = { tag: string; log: number }

/** Returns the id of a block, from which a client continues. The number of a part counts those of all repositories. */
function formatPlace({ tag, log }: Place, cursors: PageCursors): string {
  return `${cursors.format(log)}.${tag}`
}

/** Returns the beginning for any other text. */
function parsePlace(text: string | string[] | undefined, cursors: PageCursors): Place {
  const [cursor = '', tag = ''] = typeof text === 'string' ? text.split('.', 2) : []
  const [log] = cursors.numbersOf(cursor, 1) ?? []
  return log === undefined ? { tag: '', log: 0 } : { tag, log }
}

/** Sends the deployment at each change, and what its kernels print, until it ends. */
export async function streamDeployment(
  ctx: RouteContext,
  deps: DeploymentRouteDeps,
  id: string,
): Promise<void> {
  const { caller, address } = ctx.state
  const first = await requireDeployment(deps, id, caller)
  const place = parsePlace(ctx.headers['last-event-id'], deps.cursors)
  const hasSeenEnd =
    first.finishedAt !== null && place.tag === showDeployment(first, caller, false).tag
  if (hasSeenEnd && (await newLogs(deps, first, caller, place, 1)).length === 0) {
    // An EventSource does not connect again then (HTML, section 9.2.3).
    ctx.status = 204
    return
  }
  const stopping = abortedOnClose(ctx)
  await deps.connections.run(address, stopping, async () => {
    const events = new EventStream(ctx)
    const heartbeat = setInterval(() => events.comment('still here'), HEARTBEAT_MILLISECONDS)
    const check = setInterval(
      () => void endIfRevoked(ctx, stopping),
      AUTHENTICATION_CHECK_MILLISECONDS,
    )
    try {
      await deps.watch.follow(id, STREAM_MILLISECONDS_MAX, stopping.signal, async () =>
        sendNews(
          events,
          deps,
          requireVisible(id, await deps.watch.readNext(id), caller),
          caller,
          place,
        ),
      )
    } finally {
      clearInterval(heartbeat)
      clearInterval(check)
      events.end()
    }
  })
}

/** Sends parts of logs, and the deployment when it differs; its end after all parts. */
async function sendNews(
  events: EventStream,
  deps: DeploymentRouteDeps,
  found: WatchedDeployment,
  caller: Caller,
  place: Place,
): Promise<Looked> {
  const logs = await newLogs(deps, found, caller, place, LOGS_AT_ONCE)
  for (const log of logs) {
    place.log = log.id
    const id = formatPlace(place, deps.cursors)
    events.send({ id, event: 'log', data: visibleJson(logJson(log)) })
    await events.drained()
  }
  const isEnded = found.finishedAt !== null
  const hasMore = logs.length === LOGS_AT_ONCE
  // The end comes last: a client may leave then.
  if (isEnded && hasMore) return 'more'
  const { body, tag } = showDeployment(found, caller, false)
  if (tag !== place.tag) {
    place.tag = tag
    events.send({ id: formatPlace(place, deps.cursors), event: 'deployment', data: body })
  }
  events.disconnectIfBehind()
  if (isEnded) return 'end'
  return hasMore ? 'more' : 'wait'
}

function newLogs(
  { watch }: DeploymentRouteDeps,
  { id, repository }: WatchedDeployment,
  caller: Caller,
  { log }: Place,
  limit: number,
) {
  return maySeeHosts(caller, repository) ? watch.logs(id, log, limit) : []
}

async function endIfRevoked(ctx: RouteContext, stopping: AbortController): Promise<void> {
  const holds = await ctx.state.isAuthenticated().catch(() => false)
  if (!holds) stopping.abort()
}
