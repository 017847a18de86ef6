import type { Authenticator } from '../../auth/authenticator.ts'
import type { Desired, DesiredUnits } from '../../deployments/desired.ts'
import type { DesiredUnit } from '../../deployments/desired-unit.ts'
import { digestOf } from '../../oci/digest.ts'
import { invalidQuery, unauthorized } from '../../oci/errors.ts'
import { visibleJson } from '../../oci/hidden-characters.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import { hostOf, queryOnce, type Route, type RouteContext } from '../route.ts'

export type DesiredRouteDeps = {
  readonly desired: DesiredUnits
  readonly authenticator: Authenticator
  publicBaseUrl(ctx: RouteContext): string
}

const WAIT_SECONDS_MAX = 55
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
        const format = formatOf(ctx)
        const render = rendererOf(ctx, deps, format)
        const ifNoneMatch = ctx.get('If-None-Match') || undefined
        const bodies = new Map<Desired, string>()
        const bodyOf = (desired: Desired) =>
          bodies.get(desired) ?? remember(bodies, desired, render)
        const isKnown = (desired: Desired) =>
          ifNoneMatch !== undefined && isNotModified(ifNoneMatch, versionOf(bodyOf(desired)))
        const found = await deps.desired.wait(hostOf(ctx).id, isKnown, waitSeconds, signalOf(ctx))
        if (waitSeconds > 0) await assertAuthenticated(ctx, deps.authenticator)
        const body = bodyOf(found)
        ctx.set({ 'Cache-Control': 'no-store', Vary: 'Accept', ETag: entityTag(versionOf(body)) })
        if (isKnown(found)) ctx.status = 304
        else {
          ctx.type = format === 'json' ? 'application/json' : 'text/plain'
          ctx.body = body
        }
      },
    },
  ]
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

/** Returns a signal that the end of the connection aborts. */
function signalOf(ctx: RouteContext): AbortSignal {
  const leaving = new AbortController()
  if (ctx.res.destroyed) leaving.abort()
  else ctx.res.once('close', () => leaving.abort())
  return leaving.signal
}

/** A host that waited may have been revoked. Throws UNAUTHORIZED. */
async function assertAuthenticated(ctx: RouteContext, authenticator: Authenticator): Promise<void> {
  const { caller } = await authenticator.authenticate(ctx.headers.authorization, ctx.state.address)
  const isExpired = caller.kind === 'holder' && caller.expiredAt !== undefined
  if (isExpired) throw unauthorized('the token has expired')
}
