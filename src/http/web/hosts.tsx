import type { HostFilter, HostRow, ListedUnit, UnitOfHost } from '../../auth/hosts/hosts.ts'
import { badRequest } from '../../oci/errors.ts'
import { HostPage, type HostView } from '../../web/host.tsx'
import type { HostWord } from '../../web/host-words.tsx'
import { type HostItem, HostsPage } from '../../web/hosts.tsx'
import { hostPath } from '../../web/paths.ts'
import { hostRequesterOf } from '../api/enrolments.ts'
import { readForm } from '../api/form-fields.ts'
import { hostJson, unitJson } from '../api/host-json.ts'
import { hostCursor, hostFilterOf, hostPlaceOf, parseLabels } from '../api/hosts.ts'
import type { JsonFields } from '../api/json-fields.ts'
import { param, queryAll, type Route } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { listRunsForPage } from './running.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const HOSTS_A_PAGE = 25
/** Hosts that wait for an approval, above the list of all. */
const PENDING = 5
const FILTERS = ['state', 'label', 'repository', 'kernel']
const HOST = '/hosts/:host'

/** The pages of hosts, and the forms that approve, deny and revoke one. */
export function hostPages({
  auth: { hosts },
  ask,
  clientBaseUrl,
}: Pick<PageDeps, 'auth' | 'ask' | 'clientBaseUrl'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/hosts',
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const [db, requester] = [ask(ctx), hostRequesterOf(ctx)]
        const [given, place] = [hostFilterOf(ctx), hostPlaceOf(ctx)]
        const { state = 'active' } = given
        const isPart = FILTERS.some((name) => queryAll(ctx, name).length > 0) || place.name !== ''
        const [found, waiting] = await Promise.all([
          hosts.list(db, { ...given, state }, place, HOSTS_A_PAGE, requester),
          isPart ? undefined : hosts.list(db, WAITING, place, PENDING, requester),
        ])
        const units = state === 'active' ? await hosts.unitsOf(db, found.hosts) : []
        const next = nextPath(ctx, found.next && hostCursor(found.next), FILTERS)
        sendPage(ctx, {
          title: 'Hosts',
          json: '/api/v1/hosts',
          next,
          content: (
            <HostsPage
              registry={ctx.host}
              base={clientBaseUrl(ctx)}
              hosts={found.hosts.map((host) => itemOf(host, units))}
              pending={waiting?.hosts.map((host) => itemOf(host, [])) ?? []}
              state={state}
              label={queryAll(ctx, 'label')[0]}
              isPart={isPart}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: HOST,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const name = param(ctx, 'host')
        const { host, units } = await hosts.require(name, hostRequesterOf(ctx), ask(ctx))
        const runs =
          host.state === 'pending'
            ? undefined
            : await listRunsForPage(ctx, ask, {
                host: name,
                json: `/api/v1/runs?${new URLSearchParams({ host: name })}`,
              })
        sendPage(ctx, {
          title: name,
          json: `/api/v1${hostPath(name)}`,
          content: <HostPage host={viewOf(host, units)} runs={runs} />,
        })
      },
    },
    {
      method: 'POST',
      path: `${HOST}/approve`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const [name, approval] = [param(ctx, 'host'), await readForm(ctx, approvalOf)]
        await hosts.approve(name, approval, hostRequesterOf(ctx))
        ctx.status = 303
        ctx.redirect(hostPath(name))
      },
    },
    {
      method: 'POST',
      path: `${HOST}/revoke`,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        await hosts.revoke(param(ctx, 'host'), hostRequesterOf(ctx))
        ctx.status = 303
        ctx.redirect('/hosts')
      },
    },
  ]
}

const WAITING: HostFilter = {
  ...{ state: 'pending', labels: undefined },
  ...{ repository: undefined, kernel: undefined },
}

/** Reads an approval: the items of a list stand in one field, with spaces between them. */
function approvalOf(fields: JsonFields) {
  const items = (name: string) => (fields.optionalText(name) ?? '').split(/\s+/).filter(Boolean)
  const networks = items('networks')
  return {
    fingerprint: fields.text('fingerprint'),
    repositories: items('repositories'),
    networks: networks.length === 0 ? undefined : networks,
    labels: parseLabels(items('labels'), (message) => badRequest(message, { field: 'labels' })),
  }
}

function wordOf({ state, presence }: ReturnType<typeof hostJson>): HostWord {
  return state === 'active' ? presence : state
}

function itemOf(row: HostRow, units: readonly UnitOfHost[]): HostItem {
  const host = hostJson(row)
  const own = units.filter(({ hostId }) => hostId === row.id)
  return { ...host, word: wordOf(host), units: own, unitCount: own[0]?.of ?? 0 }
}

function viewOf(row: HostRow, units: readonly ListedUnit[]): HostView {
  const host = hostJson(row)
  const isFailure = ({ state }: ListedUnit) => state === 'failed' || state === 'rolled-back'
  const ordered = [...units.filter(isFailure), ...units.filter((unit) => !isFailure(unit))]
  return {
    ...host,
    word: wordOf(host),
    tenders: host.tenders as HostView['tenders'],
    units: ordered.map(unitJson),
  }
}
