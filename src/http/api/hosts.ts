import type { HostKeys } from '../../auth/hosts/host-keys.ts'
import { HOST_STATES, type HostFilter, type HostPlace, type Hosts } from '../../auth/hosts/hosts.ts'
import { parseDigest } from '../../oci/digest.ts'
import { invalidQuery, type RegistryError } from '../../oci/errors.ts'
import { parseRepository } from '../../oci/reference.ts'
import { pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import {
  actorOf,
  hostOf,
  param,
  queryAll,
  queryOnce,
  type Route,
  type RouteContext,
} from '../route.ts'
import { hostRequesterOf } from './enrolments.ts'
import { readFormOrJson } from './form-fields.ts'
import { hostJson, unitJson } from './host-json.ts'
import { type JsonFields, readFields } from './json-fields.ts'

const HOSTS = '/api/v1/hosts'
const HOST = `${HOSTS}/:host`
const HOSTS_PER_PAGE = 100
const LABELS_MAX = 32
const NAME_LENGTH_MAX = 64

/** Lists, approves, changes and revokes hosts, for callers with `admin` on their repositories. */
export function hostRoutes(hosts: Hosts, ask: AskQuestion): Route[] {
  return [
    {
      method: 'POST',
      path: HOSTS,
      access: 'authenticated',
      async handle(ctx) {
        const { name, ...grant } = await readFields(ctx, (fields) => ({
          name: fields.text('name'),
          ...readGrant(fields),
        }))
        const { host, secret } = await hosts.createWithSecret(name, grant, hostRequesterOf(ctx))
        ctx.status = 201
        ctx.set({ 'Cache-Control': 'no-store', Location: `${HOSTS}/${name}` })
        ctx.body = { ...hostJson(host), secret }
      },
    },
    {
      method: 'GET',
      path: HOSTS,
      access: 'authenticated',
      query: { ...PAGE, label: 'many', repository: 'once', kernel: 'once', state: 'once' },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, HOSTS_PER_PAGE)
        const filter = hostFilterOf(ctx)
        const requester = hostRequesterOf(ctx)
        const { hosts: shown, next } = await hosts.list(
          ask(ctx),
          filter,
          hostPlaceOf(ctx),
          limit,
          requester,
        )
        if (next !== undefined && limit > 0) linkNext(ctx, next, limit)
        ctx.body = { hosts: shown.map(hostJson) }
      },
    },
    {
      method: 'GET',
      path: HOST,
      access: 'authenticated',
      reads: 'rows',
      async handle(ctx) {
        const { host, units } = await hosts.require(param(ctx, 'host'), hostRequesterOf(ctx))
        ctx.body = { ...hostJson(host), units: units.map(unitJson) }
      },
    },
    {
      method: 'PATCH',
      path: HOST,
      access: 'authenticated',
      async handle(ctx) {
        const change = await readFields(ctx, (fields) => ({
          repositories: fields.optionalTexts('repositories'),
          networks: fields.orNull('networks', (field) => fields.optionalTexts(field)),
          labels: fields.optionalNamedTexts('labels'),
        }))
        ctx.body = hostJson(await hosts.change(param(ctx, 'host'), change, hostRequesterOf(ctx)))
      },
    },
    {
      method: 'DELETE',
      path: HOST,
      access: 'authenticated',
      async handle(ctx) {
        await hosts.revoke(param(ctx, 'host'), hostRequesterOf(ctx))
        ctx.status = 204
      },
    },
    {
      method: 'POST',
      path: `${HOST}/approve`,
      access: 'authenticated',
      async handle(ctx) {
        const approval = await readFields(ctx, (fields) => ({
          fingerprint: fields.text('fingerprint'),
          ...readGrant(fields),
        }))
        ctx.body = hostJson(await hosts.approve(param(ctx, 'host'), approval, hostRequesterOf(ctx)))
      },
    },
  ]
}

/** The route by which a host changes its own key. */
export function hostKeyRoutes(keys: HostKeys): Route[] {
  return [
    {
      method: 'POST',
      path: `${HOST}/keys`,
      access: 'host',
      async handle(ctx) {
        const rotation = await readFormOrJson(ctx, (fields) => ({
          jwk: fields.raw('jwk'),
          proof: fields.text('proof'),
          assertion: fields.text('assertion'),
        }))
        ctx.body = await keys.rotate(hostOf(ctx), rotation, actorOf(ctx))
      },
    },
  ]
}

/** Reads the fields of a request that say what a host may do. */
export function readGrant(fields: JsonFields) {
  return {
    repositories: fields.optionalTexts('repositories') ?? [],
    networks: fields.optionalTexts('networks'),
    labels: fields.optionalNamedTexts('labels'),
  }
}

/** Reads the filter of a list of hosts from the query. Throws QUERY_INVALID. */
export function hostFilterOf(ctx: RouteContext): HostFilter {
  const given = queryOnce(ctx, 'state') || undefined
  const state = HOST_STATES.find((one) => one === given)
  if (given !== undefined && state === undefined) {
    throw invalidQuery(
      `state must be one of ${HOST_STATES.join(', ')}, not "${given.slice(0, 32)}"`,
    )
  }
  const repository = queryOnce(ctx, 'repository') || undefined
  const kernel = queryOnce(ctx, 'kernel') || undefined
  return {
    state,
    labels: labelsOf(ctx),
    repository: repository === undefined ? undefined : parseRepository(repository),
    kernel: kernel === undefined ? undefined : parseDigest(kernel),
  }
}

function labelsOf(ctx: RouteContext): Record<string, string> | undefined {
  const texts = queryAll(ctx, 'label').filter((text) => text !== '')
  if (texts.length === 0) return undefined
  return parseLabels(texts, (message) => invalidQuery(message, { parameter: 'label' }))
}

/** Parses labels, each `NAME=VALUE`. Throws the error that `problem` makes of a message. */
export function parseLabels(
  texts: readonly string[],
  problem: (message: string) => RegistryError,
): Record<string, string> {
  if (texts.length > LABELS_MAX) throw problem(`label may be given at most ${LABELS_MAX} times`)
  const entries = texts.map((text): [string, string] => {
    const at = text.indexOf('=')
    if (at < 1) throw problem('label must be NAME=VALUE')
    return [text.slice(0, at), text.slice(at + 1)]
  })
  return Object.fromEntries(entries)
}

/** `last` has the name, and the number of a revoked host, whose name others may have had. */
export function hostPlaceOf(ctx: RouteContext): HostPlace {
  const [name = '', id = String(Number.MAX_SAFE_INTEGER)] = (queryOnce(ctx, 'last') ?? '').split(
    ':',
  )
  if (name.length <= NAME_LENGTH_MAX && /^\d{1,16}$/.test(id)) return { name, id: Number(id) }
  throw invalidQuery("last must be the cursor from the previous page's Link header")
}

/** Returns the text of `last` for the page after a host. */
export function hostCursor({ name, id }: HostPlace): string {
  return `${name}:${id}`
}

function linkNext(ctx: RouteContext, next: HostPlace, limit: number): void {
  const kept = new URLSearchParams(ctx.querystring)
  const pairs = [...kept].filter(([parameter]) => !Object.hasOwn(PAGE, parameter))
  setNextLink(ctx, [...pairs, ['last', hostCursor(next)], ['n', String(limit)]])
}
