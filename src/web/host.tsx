import type { Digest } from '../oci/digest.ts'
import {
  ActionButton,
  DataTable,
  Empty,
  Facts,
  Heading,
  ImageLink,
  Lines,
  Section,
  ShortDigest,
  Time,
} from './elements.tsx'
import { HostStateWord, UnitConditionWord } from './host-words.tsx'
import type { HostItem, UnitItem } from './hosts.tsx'
import { deploymentPath, hostPath, kernelPath, tagPath } from './paths.ts'
import { type RunList, RunSection } from './run-table.tsx'
import { lastLines } from './targets.tsx'
import { counted } from './texts.ts'

/** A unit of a host, with what the host reports of it. */
export type HostUnit = UnitItem & {
  /** The kernel that runs. */
  readonly kernel: Digest | null
  readonly since: Date
  readonly reason: string | null
  readonly message: string | null
  readonly exitMeaning: string | null
  /** The deployment that granted its image. */
  readonly deployment: string | null
  readonly failedDigest: Digest | null
  /** The last lines that its kernels printed. */
  readonly log: string | null
  readonly loggedAt: Date | null
}

export type HostView = Omit<HostItem, 'units' | 'unitCount'> & {
  readonly trust: 'key' | 'secret'
  readonly repositories: readonly string[]
  readonly networks: readonly string[] | null
  readonly tenders: readonly {
    readonly target?: string
    readonly abi?: number | null
    readonly architecture?: string | null
  }[]
  readonly agent: string | null
  readonly createdBy: string | null
  readonly expiresAt: Date | null
  readonly conflictAt: Date | null
  /** Failed units first. */
  readonly units: readonly HostUnit[]
}

/** Units whose rows and last lines the page shows; the JSON has all. */
const UNITS_SHOWN = 30
const LOGS_SHOWN = 5

/** The page of a host: does it run what it should, since when, what did its units print last, and what ran before? */
export function HostPage({ host, runs }: { host: HostView; runs: RunList | undefined }) {
  const { name, word, seenAt, conflictAt } = host
  return (
    <>
      <Heading trail={[{ href: '/hosts', name: 'Hosts' }]}>{name}</Heading>
      <p>
        <HostStateWord word={word} />
        {seenAt === null ? null : (
          <>
            {' · last call '}
            <Time at={seenAt} />
          </>
        )}
      </p>
      {conflictAt === null ? null : (
        <p class="error">
          Two machines have the key of this host: both reported at <Time at={conflictAt} />. Give
          one of them another name and another key.
        </p>
      )}
      {word === 'pending' ? (
        <Approval host={host} />
      ) : (
        <>
          <Units host={host} />
          <LastLines units={host.units} />
          <RunSection
            title="What ran here"
            list={runs}
            none="No kernel has run here that you may see."
            showsHost={false}
          />
          <Section id="facts" title="The host">
            <HostFacts host={host} />
            <Revocation name={name} />
          </Section>
        </>
      )}
    </>
  )
}

function Units({ host: { name, word, units } }: { host: HostView }) {
  const shown = units.slice(0, UNITS_SHOWN)
  return (
    <Section
      id="units"
      title="Units"
      note={
        units.length > shown.length
          ? `${shown.length} of ${units.length}, the failed ones first. The JSON of this page has all.`
          : undefined
      }
    >
      {units.length === 0 ? (
        <Empty>
          This host has reported no unit. Each file in <code>/etc/rookery/units</code> on it is one.
        </Empty>
      ) : (
        <DataTable
          caption={`Units of ${name}`}
          filter
          columns={['Unit', 'State', 'Since', 'Follows', 'Should run', 'Runs']}
          rows={shown.map((unit) => ({
            key: unit.name,
            cells: cellsOf(unit, word === 'online'),
          }))}
        />
      )}
    </Section>
  )
}

function cellsOf(unit: HostUnit, isOnline: boolean) {
  const { name, since, repository, tag, grantedDigest, kernel, deployment } = unit
  const causes = [unit.reason, unit.exitMeaning, unit.message].filter((one) => one !== null)
  return [
    name,
    <>
      <UnitConditionWord unit={unit} isOnline={isOnline} />
      {causes.length === 0 ? null : <div class="faint">{causes.join('; ')}</div>}
    </>,
    <Time at={since} />,
    <a href={tagPath(repository, tag)}>
      {repository}:{tag}
    </a>,
    <>
      {grantedDigest === null ? (
        <span class="faint">nothing yet</span>
      ) : (
        <ImageLink repository={repository} digest={grantedDigest} />
      )}
      {deployment === null ? null : (
        <div>
          <a href={deploymentPath(deployment)}>its deployment</a>
        </div>
      )}
    </>,
    kernel === null ? (
      <span class="faint">nothing</span>
    ) : (
      <a href={kernelPath(kernel)}>
        <ShortDigest digest={kernel} />
      </a>
    ),
  ]
}

/** The last lines that the units printed. */
function LastLines({ units }: { units: readonly HostUnit[] }) {
  const printed = units.filter(({ log }) => log !== null)
  if (printed.length === 0) return null
  const shown = printed.slice(0, LOGS_SHOWN)
  return (
    <Section
      id="logs"
      title="Last lines"
      note={
        printed.length > shown.length
          ? `Of ${shown.length} of ${counted(printed.length, 'unit')}. The JSON of this page has the others.`
          : undefined
      }
    >
      {shown.map(({ name, log, loggedAt }) => (
        <article key={name}>
          <h3>{name}</h3>
          <Lines label="What it printed last">{lastLines(log ?? '')}</Lines>
          {loggedAt === null ? null : (
            <p class="note">
              Received <Time at={loggedAt} />
            </p>
          )}
        </article>
      ))}
    </Section>
  )
}

function HostFacts({ host }: { host: HostView }) {
  const { repositories, networks, labels, tenders } = host
  return (
    <Facts
      facts={[
        ['May follow', repositories.join(', ')],
        ['May call from', networks?.join(', ') ?? 'any network'],
        [
          'Labels',
          Object.entries(labels)
            .map(([label, value]) => `${label}=${value}`)
            .join(', '),
        ],
        ['Runs kernels for', tenders.map(tenderText).join(', ')],
        ['Agent', host.agent],
        [
          'Fingerprint of its key',
          host.fingerprint === null ? null : <code>{host.fingerprint}</code>,
        ],
        ['Proves itself by', host.trust === 'secret' ? 'a password' : null],
        ['Made', <Time at={host.createdAt} />],
        ['Made by', host.createdBy],
      ]}
    />
  )
}

function tenderText({ target, abi, architecture }: HostView['tenders'][number]): string {
  const kind = typeof abi === 'number' ? `${target}:${abi}` : target
  return [kind, architecture].filter(Boolean).join(' ')
}

/** The forms that activate or refuse a host that waits. */
function Approval({
  host: { name, fingerprint, requestedFrom, createdAt, expiresAt },
}: {
  host: HostView
}) {
  return (
    <Section
      id="approve"
      title="Approve this host"
      note="Anybody can ask under this name. It is your host only when it printed the same fingerprint on its console."
    >
      <Facts
        facts={[
          ['Fingerprint of its key', <code>{fingerprint}</code>],
          ['Called from', requestedFrom],
          ['Waits since', <Time at={createdAt} />],
          ['Waits until', expiresAt === null ? null : <Time at={expiresAt} />],
        ]}
      />
      <form class="fields" action={`${hostPath(name)}/approve`} method="post">
        <input type="hidden" name="fingerprint" value={fingerprint ?? ''} />
        <label>
          Repositories that it may follow, such as hello/* and builds/www, with spaces between them
          <input type="text" name="repositories" required maxlength={2048} />
        </label>
        <label>
          Networks from which it may call, such as 192.0.2.0/24; any when empty
          <input type="text" name="networks" maxlength={2048} />
        </label>
        <label>
          Labels, such as site=a
          <input type="text" name="labels" maxlength={2048} />
        </label>
        <label class="tick">
          <input type="checkbox" required /> The host printed the same fingerprint
        </label>
        <button type="submit">Approve</button>
      </form>
      <ActionButton
        action={`${hostPath(name)}/revoke`}
        name="Deny"
        label={`Deny ${name}`}
        kind="danger"
      />
    </Section>
  )
}

function Revocation({ name }: { name: string }) {
  return (
    <details>
      <summary>Revoke this host</summary>
      <p>
        Its key and its tokens end on every replica within seconds, and no deployment waits for it.
        It keeps running what it runs. Its name is free for another host.
      </p>
      <ActionButton action={`${hostPath(name)}/revoke`} name={`Revoke ${name}`} kind="danger" />
    </details>
  )
}
