import type { Desired, DesiredUnits } from '../../deployments/desired.ts'
import type { DesiredUnit } from '../../deployments/desired-unit.ts'
import type { WaitingPlace } from '../../deployments/waiting-hosts.ts'
import { digestOf } from '../../oci/digest.ts'
import { invalidQuery, unauthorized } from '../../oci/errors.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import { EventStream } from '../event-stream.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import { hostOf, queryOnce, type Route, type RouteContext } from '../route.ts'
import { abortedOnClose } from '../waiting.ts'

export type DesiredRouteDeps = {
  readonly desired: DesiredUnits
  publicBaseUrl(ctx: RouteContext): string
  /**
   * Runs `work` while the request does not count among those of its address: the number of hosts that wait has a limit of its
   * own, with one request each, and a site may have hundreds behind one address.
   */
  beyondAddressLimit<T>(ctx: RouteContext, work: () => Promise<T>): Promise<T>
  /** Counts as a request of the host. */
  onHostRequest(hostId: number): void
}

const WAIT_SECONDS_MAX = 55
const STREAM_MILLISECONDS_MAX = 3_600_000
/** A stream reads again after this time, also without a notice. */
const STREAM_READ_SECONDS = 60
/** Proxies close connections that are silent for a minute or less. */
const HEARTBEAT_MILLISECONDS = 15_000
/** A stream whose host was revoked ends after this time and the refresh of the list of revocations. */
const AUTHENTICATION_CHECK_MILLISECONDS = 2_000
/** In the text format, a field without a value: a shell would join two tabs. */
const NOTHING = '-'

/** The desired units of a host: spec/http-api.md, "Desired units and reports". */
export function desiredRoutes(deps: DesiredRouteDeps): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/hosts/:host/desired',
      access: 'host',
      query: { wait: 'once' },
      reads: 'rows',
      async handle(ctx) {
        const waitSeconds = readWait(ctx)
        ctx.vary('Accept')
        const wantsStream = ctx.headers.accept?.includes('text/event-stream') === true
        if (wantsStream && ctx.method !== 'HEAD') {
          await deps.beyondAddressLimit(ctx, () => stream(ctx, deps))
        } else await answer(ctx, deps, waitSeconds)
      },
    },
  ]
}

async function answer(
  ctx: RouteContext,
  deps: DesiredRouteDeps,
  waitSeconds: number,
): Promise<void> {
  const format = formatOf(ctx)
  const render = rendererOf(ctx, deps, format)
  const ifNoneMatch = ctx.get('If-None-Match') || undefined
  const bodies = new Map<Desired, string>()
  const bodyOf = (desired: Desired) => bodies.get(desired) ?? remember(bodies, desired, render)
  const isKnown = (desired: Desired) =>
    ifNoneMatch !== undefined && isNotModified(ifNoneMatch, versionOf(bodyOf(desired)))
  const { signal } = abortedOnClose(ctx)
  const { desired } = await deps.beyondAddressLimit(ctx, () =>
    deps.desired.wait(hostOf(ctx).id, isKnown, waitSeconds, signal),
  )
  // A host that waited may have been revoked.
  if (waitSeconds > 0 && !(await ctx.state.isAuthenticated())) {
    throw unauthorized('the token has expired')
  }
  const body = bodyOf(desired)
  ctx.set({ 'Cache-Control': 'no-store', ETag: entityTag(versionOf(body)) })
  if (isKnown(desired)) ctx.status = 304
  else {
    ctx.type = format === 'json' ? 'application/json' : 'text/plain'
    ctx.body = body
  }
}

/** Sends the desired units, and again at each change, until the client leaves, its token ends or the host asks anew. */
async function stream(ctx: RouteContext, deps: DesiredRouteDeps): Promise<void> {
  // Before the headers: a host without a place is refused as one that polls.
  const place = deps.desired.waiting.enter(hostOf(ctx).id)
  try {
    await sendChanges(ctx, deps, place)
  } finally {
    place.leave()
  }
}

async function sendChanges(
  ctx: RouteContext,
  deps: DesiredRouteDeps,
  place: WaitingPlace,
): Promise<void> {
  const { id } = hostOf(ctx)
  const render = rendererOf(ctx, deps, 'json')
  const stopping = abortedOnClose(ctx)
  const { signal } = stopping
  const ends = performance.now() + STREAM_MILLISECONDS_MAX
  let desired = await deps.desired.read(id)
  const events = new EventStream(ctx)
  const beat = setInterval(() => {
    deps.onHostRequest(id)
    events.comment('still here')
  }, HEARTBEAT_MILLISECONDS)
  const check = setInterval(() => {
    void ctx.state
      .isAuthenticated()
      .catch(() => false)
      .then((holds) => holds || stopping.abort())
  }, AUTHENTICATION_CHECK_MILLISECONDS)
  try {
    for (let sent = ''; !signal.aborted && performance.now() < ends; ) {
      const body = render(desired.units)
      if (body !== sent) events.send({ event: 'desired', data: body })
      sent = body
      const isKnown = (one: Desired) => render(one.units) === sent
      const next = await deps.desired.wait(id, isKnown, STREAM_READ_SECONDS, signal, place)
      if (next.isEnded) return
      desired = next.desired
    }
  } finally {
    clearInterval(beat)
    clearInterval(check)
    events.end()
  }
}

function versionOf(body: string): string {
  return digestOf(Buffer.from(body))
}

function remember(
  bodies: Map<Desired, string>,
  desired: Desired,
  render: (units: readonly DesiredUnit[]) => string,
): string {
  const body = render(desired.units)
  bodies.set(desired, body)
  return body
}

function readWait(ctx: RouteContext): number {
  const text = queryOnce(ctx, 'wait')
  if (text === undefined) return 0
  if (/^\d{1,3}$/.test(text) && Number(text) <= WAIT_SECONDS_MAX) return Number(text)
  throw invalidQuery(`wait must be a whole number of seconds from 0 to ${WAIT_SECONDS_MAX}`, {
    parameter: 'wait',
  })
}

function formatOf(ctx: RouteContext): 'json' | 'text' {
  return ctx.accepts('application/json', 'text/plain') === 'text/plain' ? 'text' : 'json'
}

function rendererOf(
  ctx: RouteContext,
  deps: DesiredRouteDeps,
  format: 'json' | 'text',
): (units: readonly DesiredUnit[]) => string {
  const base = deps.publicBaseUrl(ctx)
  const { name } = hostOf(ctx)
  return format === 'text'
    ? (units) => units.map((unit) => desiredLine(unit, base)).join('')
    : (units) => visibleJson({ host: name, units: units.map((unit) => desiredJson(unit, base)) })
}

/** The JSON of what a unit should run. Fields that say nothing are left out. `base`: the URL of the registry. */
export function desiredJson(unit: DesiredUnit, base: string): object {
  const { hold, reason, message, kernel, ...rest } = unit
  return {
    ...rest,
    kernel: kernel === null ? null : { ...kernel, url: kernelUrl(unit, base) },
    ...(hold === null ? {} : { hold }),
    ...(reason === null ? {} : { reason, message }),
  }
}

/** One line for hosts without a parser for JSON: the fields are separated by tabs, and none is empty. */
function desiredLine(unit: DesiredUnit, base: string): string {
  const { name, digest, kernel, deployment, watchSeconds, seen } = unit
  const fields = [
    ...[name, digest, kernel?.digest, kernelUrl(unit, base), deployment, watchSeconds],
    ...[seen.kernel, seen.state],
  ]
  return `${fields.map((field) => field ?? NOTHING).join('\t')}\n`
}

function kernelUrl({ repository, kernel }: DesiredUnit, base: string): string | undefined {
  return kernel === null ? undefined : `${base}/v2/${repository}/blobs/${kernel.digest}`
}
