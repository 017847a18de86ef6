import type { Repository, Tag } from '../oci/reference.ts'
import { DataTable, Empty, Heading, Lines, NextPage, Section, Time } from './elements.tsx'
import { FilterLinks } from './filter-links.tsx'
import {
  HostStateWord,
  type HostWord,
  LabelList,
  runsWhatItShould,
  type UnitCondition,
  UnitConditionWord,
} from './host-words.tsx'
import { hostPath } from './paths.ts'
import { counted } from './texts.ts'

/** A unit of a host in a list. */
export type UnitItem = UnitCondition & {
  readonly name: string
  readonly repository: Repository
  readonly tag: Tag
}

/** A host of a list. */
export type HostItem = {
  readonly name: string
  readonly word: HostWord
  readonly labels: Readonly<Record<string, string>>
  readonly seenAt: Date | null
  readonly revokedAt: Date | null
  readonly createdAt: Date
  /** The thumbprint of its key. Null: it has a secret. */
  readonly fingerprint: string | null
  /** The network of a host that waits. */
  readonly requestedFrom: string | null
  /** Some of its units, the failed ones first. */
  readonly units: readonly UnitItem[]
  /** How many units it has. */
  readonly unitCount: number
}

export type HostsView = {
  /** The host and the port of the registry, and its URL. */
  readonly registry: string
  readonly base: string
  readonly hosts: readonly HostItem[]
  /** Hosts that wait for an approval, of the first page. */
  readonly pending: readonly HostItem[]
  /** The state that all of the hosts have. */
  readonly state: 'active' | 'pending' | 'revoked'
  readonly label: string | undefined
  /** True when the list has filters, or is not the first page. */
  readonly isPart: boolean
  readonly next: string | undefined
}

/** Names of units that have a column of their own. */
const UNIT_COLUMNS_MAX = 5

/** The page of the hosts and their units: does everything run what it should? */
export function HostsPage(view: HostsView) {
  const { hosts, pending, state, label, isPart, next } = view
  const isEmpty = hosts.length === 0 && pending.length === 0
  return (
    <>
      <Heading note={summaryOf(hosts)}>Hosts</Heading>
      {isEmpty && state === 'active' && !isPart ? (
        <FirstHost view={view} />
      ) : (
        <>
          <FilterLinks
            label="State"
            path="/hosts"
            parameter="state"
            any="active"
            values={['pending', 'revoked']}
            chosen={state === 'active' ? undefined : state}
          />
          {pending.length === 0 ? null : (
            <Section id="pending" title="Waiting for an approval">
              <PendingTable hosts={pending} />
            </Section>
          )}
          <form class="ask" action="/hosts" method="get">
            {state === 'active' ? null : <input type="hidden" name="state" value={state} />}
            <label for="label">With the label NAME=VALUE</label>{' '}
            <input id="label" name="label" type="text" value={label} maxlength={128} />{' '}
            <button type="submit">Show</button>
          </form>
          {hosts.length === 0 ? (
            <Empty>No host that you may manage is here.</Empty>
          ) : (
            <HostTable state={state} hosts={hosts} />
          )}
          <NextPage href={next} />
        </>
      )}
    </>
  )
}

function summaryOf(hosts: readonly HostItem[]): string | undefined {
  const active = hosts.filter(({ word }) => word === 'online' || word === 'offline')
  if (active.length === 0) return undefined
  const units = active.filter(({ word }) => word === 'online').flatMap(({ units }) => units)
  const offline = active.filter(({ word }) => word === 'offline').length
  const right = units.filter(runsWhatItShould).length
  return [
    ...(units.length === 0
      ? []
      : [`${right} of ${counted(units.length, 'unit')} run what they should.`]),
    ...(offline === 0 ? [] : [`${counted(offline, 'host is', 'hosts are')} offline.`]),
  ].join(' ')
}

function HostTable({ state, hosts }: { state: HostsView['state']; hosts: readonly HostItem[] }) {
  if (state === 'pending') return <PendingTable hosts={hosts} />
  if (state === 'revoked') {
    return (
      <DataTable
        caption="Revoked hosts"
        filter
        columns={['Host', 'State', 'Labels', 'Last call', 'Revoked']}
        rows={hosts.map((host, index) => ({
          key: `${index}`,
          cells: [
            host.name,
            <HostStateWord word={host.word} />,
            <LabelList labels={host.labels} />,
            <LastCall at={host.seenAt} />,
            host.revokedAt === null ? null : <Time at={host.revokedAt} />,
          ],
        }))}
      />
    )
  }
  return <HostMatrix hosts={hosts} />
}

/** Hosts and units: a unit that several hosts have is a column. */
function HostMatrix({ hosts }: { hosts: readonly HostItem[] }) {
  const names = unitColumns(hosts)
  const hasOthers = hosts.some((host) => countOthers(host, names) > 0)
  const others = names.length === 0 ? 'Units' : 'Other units'
  return (
    <DataTable
      caption="Hosts and their units"
      filter
      columns={['Host', 'State', ...names, ...(hasOthers ? [others] : []), 'Labels', 'Last call']}
      rows={hosts.map((host) => ({
        key: host.name,
        cells: [
          <a href={hostPath(host.name)}>{host.name}</a>,
          <HostStateWord word={host.word} />,
          ...names.map((name) => {
            const unit = host.units.find((one) => one.name === name)
            return unit === undefined ? null : <Unit host={host} unit={unit} />
          }),
          ...(hasOthers ? [<OtherUnits host={host} names={names} />] : []),
          <LabelList labels={host.labels} />,
          <LastCall at={host.seenAt} />,
        ],
      }))}
    />
  )
}

/** Returns the names of units that most hosts have, and at least two. */
function unitColumns(hosts: readonly HostItem[]): string[] {
  const counts = new Map<string, number>()
  for (const { name } of hosts.flatMap(({ units }) => units)) {
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return [...counts]
    .filter(([, count]) => count > 1)
    .sort(([, left], [, right]) => right - left)
    .slice(0, UNIT_COLUMNS_MAX)
    .map(([name]) => name)
    .sort()
}

function countOthers({ units, unitCount }: HostItem, names: readonly string[]): number {
  return unitCount - units.filter(({ name }) => names.includes(name)).length
}

function OtherUnits({ host, names }: { host: HostItem; names: readonly string[] }) {
  const others = host.units.filter(({ name }) => !names.includes(name))
  const more = host.unitCount - host.units.length
  if (countOthers(host, names) === 0) return null
  return (
    <ul class="plain">
      {others.map((unit) => (
        <li key={unit.name}>
          {unit.name} <Unit host={host} unit={unit} />
        </li>
      ))}
      {more > 0 ? <li class="faint">{`${more} more`}</li> : null}
    </ul>
  )
}

function Unit({ host, unit }: { host: HostItem; unit: UnitItem }) {
  return <UnitConditionWord unit={unit} isOnline={host.word === 'online'} />
}

function LastCall({ at }: { at: Date | null }) {
  return at === null ? <span class="faint">never</span> : <Time at={at} />
}

function PendingTable({ hosts }: { hosts: readonly HostItem[] }) {
  return (
    <DataTable
      caption="Hosts that wait for an approval"
      columns={['Host', 'State', 'Fingerprint of its key', 'Called from', 'Since']}
      rows={hosts.map((host) => ({
        key: host.name,
        cells: [
          <a href={hostPath(host.name)}>{host.name}</a>,
          <HostStateWord word={host.word} />,
          <code>{host.fingerprint}</code>,
          host.requestedFrom,
          <Time at={host.createdAt} />,
        ],
      }))}
    />
  )
}

/** How the first host enrols. */
function FirstHost({ view: { registry, base } }: { view: HostsView }) {
  return (
    <>
      <Empty>
        No host is here that you may manage: that needs the right <code>admin</code> on all of its
        repositories.
      </Empty>
      <Section
        id="enrol"
        title="Let the first host enrol"
        note="A host runs the image that a tag points to, changes to another within a second when the tag moves, and reports how that went."
      >
        <Lines label="On the machine of the registry, in the folder in which it was started">
          {[
            'export PATH="$PWD/bin:$PATH"',
            `rookery host create --username admin --password-stdin ${registry} web-1 --repository 'hello/*' < data/admin-password`,
          ].join('\n')}
        </Lines>
        <Lines label="On the host, as root">
          {[
            `curl -fsSo rookery-agent ${base}/agent`,
            `curl -sS --fail-with-body ${base}/agent.sha256 | sha256sum -c`,
            'install -m 755 rookery-agent /usr/local/bin/rookery-agent',
          ].join('\n')}
        </Lines>
        <p>
          Then run there the line that the first command printed: it is valid once, for an hour.
          Files in <code>/etc/rookery/units</code> say what the host runs.
        </p>
      </Section>
      <Section id="then" title="What you will see here">
        <ul>
          <li>every host and unit in one table: does it run what it should</li>
          <li>hosts that do not call any more, and hosts that wait for an approval</li>
          <li>what a unit printed last, and what ran there before</li>
        </ul>
      </Section>
    </>
  )
}
