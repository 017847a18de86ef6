import {
  ActionButton,
  DataTable,
  Empty,
  Facts,
  Heading,
  NextPage,
  Section,
  State,
  Time,
} from './elements.tsx'
import { credentialPath } from './paths.ts'
import { firstOf } from './texts.ts'

/** Rights in repositories that match patterns. */
export type GrantItem = {
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  /** Null: any tag. */
  readonly tags: readonly string[] | null
}

/** The login of the reader. */
export type LoginView = {
  readonly name: string
  readonly isToken: boolean
  /** Undefined: an administrator, with all rights. */
  readonly grants: readonly GrantItem[] | undefined
}

/** A session of the reader. */
export type SessionItem = {
  readonly id: string
  readonly createdAt: Date
  readonly seenAt: Date
  readonly endsAt: Date
  /** True for the session of this browser. */
  readonly isCurrent: boolean
}

/** A credential, without its secret. */
export type CredentialItem = GrantItem & {
  readonly name: string
  readonly kind: string
  readonly state: 'valid' | 'expired' | 'revoked'
  readonly networks: readonly string[] | null
  readonly createdBy: string | null
  readonly expiresAt: Date | null
  readonly usedAt: Date | null
  /** The time until which the secret before a rotation is accepted. */
  readonly previousSecretUntil: Date | null
}

/** The page of the reader's login and sessions, and of all credentials for an administrator. */
export function CredentialsPage({
  login,
  sessions,
  credentials,
  expiring,
  expiringDays,
  expiringBefore,
  isFirst,
  next,
}: {
  login: LoginView
  /** In the order of their last uses, the newest first. */
  sessions: readonly SessionItem[]
  /** By name; undefined for a reader who may not see them. */
  credentials: readonly CredentialItem[] | undefined
  /** Credentials that end within `expiringDays`, in the order of their ends. */
  expiring: readonly CredentialItem[]
  expiringDays: number
  /** The time in so many days. */
  expiringBefore: Date
  /** True on the first page of the credentials. */
  isFirst: boolean
  next: string | undefined
}) {
  return (
    <>
      <Heading note="Who may do what here, and which logins of browsers there are.">
        Credentials
      </Heading>
      {isFirst ? <Own login={login} sessions={sessions} /> : null}
      {credentials !== undefined && isFirst ? (
        <Section id="expiring" title={`Expire within ${expiringDays} days`}>
          {expiring.length === 0 ? (
            <Empty>No credential expires so soon.</Empty>
          ) : (
            <ul>
              {expiring.map(({ name, expiresAt }) => (
                <li key={name}>
                  {name}: {expiresAt === null ? null : <Time at={expiresAt} />}
                </li>
              ))}
            </ul>
          )}
        </Section>
      ) : null}
      {credentials === undefined ? null : (
        <Section
          id="all"
          title="All credentials"
          note="A credential that is revoked ends at once, on every replica. Its tokens, upload URLs and sessions end with it, its webhooks stop, and its name cannot be used again."
        >
          {credentials.length === 0 ? (
            <Empty>
              <code>rookery credential create</code> makes one for a builder.
            </Empty>
          ) : (
            <DataTable
              caption="Credentials, by name"
              filter
              columns={['Name', 'State', 'Rights', 'Last used', 'Expires', 'Made by', 'Revoke']}
              rows={credentials.map((one) => ({
                key: one.name,
                cells: cellsOf(one, expiringBefore),
              }))}
            />
          )}
          <NextPage href={next} name="More credentials" />
        </Section>
      )}
    </>
  )
}

/** Sessions that the page shows: those that were used last. */
const SESSIONS_SHOWN_MAX = 10

function Own({ login, sessions }: { login: LoginView; sessions: readonly SessionItem[] }) {
  const { name, isToken, grants } = login
  const shown = sessions.slice(0, SESSIONS_SHOWN_MAX)
  const others = sessions.filter(({ isCurrent }) => !isCurrent).length
  return (
    <Section id="own" title="Your login">
      <Facts
        facts={[
          ['Name', name],
          ['Kind', isToken ? 'token' : 'password or secret'],
          ['Rights', grants === undefined ? 'all' : <Rights grants={grants} />],
        ]}
      />
      {shown.length === 0 ? (
        <Empty>No browser is logged in with it.</Empty>
      ) : (
        <DataTable
          caption="Browsers that are logged in with it, the one that was used last first"
          columns={['Browser', 'End it', 'Logged in', 'Last used', 'Ends']}
          rows={shown.map((one) => ({ key: one.id, cells: sessionCells(one) }))}
        />
      )}
      {sessions.length > shown.length ? (
        <p class="note">
          The {shown.length} that were used last, of {sessions.length}.
        </p>
      ) : null}
      {others > 0 ? (
        <ActionButton
          action="/sessions/end-others"
          name="Log out all other browsers"
          kind="danger"
        />
      ) : null}
    </Section>
  )
}

function sessionCells({ id, createdAt, seenAt, endsAt, isCurrent }: SessionItem) {
  return [
    isCurrent ? <strong>this one</strong> : 'another',
    <ActionButton
      action={`/sessions/${id}/end`}
      name="Log out"
      label={`Log out ${isCurrent ? 'this browser' : `another browser, ${id}`}`}
    />,
    <Time at={createdAt} />,
    <Time at={seenAt} />,
    <Time at={endsAt} />,
  ]
}

function Rights({ grants }: { grants: readonly GrantItem[] }) {
  if (grants.length === 0) return <>none</>
  return (
    <>
      {grants.slice(0, GRANTS_SHOWN_MAX).map((grant, index) => (
        <div key={index}>{grantText(grant)}</div>
      ))}
      {grants.length > GRANTS_SHOWN_MAX ? (
        <div>and {grants.length - GRANTS_SHOWN_MAX} more</div>
      ) : null}
    </>
  )
}

const GRANTS_SHOWN_MAX = 5
/** Patterns of repositories and tags that a line shows. */
const PATTERNS_SHOWN_MAX = 3

function grantText({ repositories, actions, tags }: GrantItem): string {
  const where = repositories.length === 0 ? '' : ` in ${firstOf(repositories, PATTERNS_SHOWN_MAX)}`
  const which = tags === null ? '' : `, tags ${firstOf(tags, PATTERNS_SHOWN_MAX)}`
  return `${actions.join(', ')}${where}${which}`
}

const KINDS: Readonly<Record<string, string>> = { admin: 'all', metrics: 'the metrics' }

function cellsOf(credential: CredentialItem, expiringBefore: Date) {
  const { name, kind, state, networks, createdBy, expiresAt, usedAt } = credential
  return [
    name,
    <CredentialStateWord credential={credential} expiringBefore={expiringBefore} />,
    <>
      {KINDS[kind] ?? grantText(credential)}
      {networks === null ? '' : `, from ${firstOf(networks, PATTERNS_SHOWN_MAX)}`}
    </>,
    usedAt === null ? <span class="faint">never</span> : <Time at={usedAt} />,
    expiresAt === null ? <span class="faint">never</span> : <Time at={expiresAt} />,
    createdBy ?? <span class="faint">the registry</span>,
    state === 'revoked' ? null : (
      <details>
        <summary>Revoke</summary>
        <ActionButton
          action={`${credentialPath(name)}/revoke`}
          name="Revoke for good"
          label={`Revoke for good: ${name}`}
          kind="danger"
        />
      </details>
    ),
  ]
}

function CredentialStateWord({
  credential,
  expiringBefore,
}: {
  credential: CredentialItem
  expiringBefore: Date
}) {
  const { state, expiresAt, previousSecretUntil } = credential
  const isSoon = expiresAt !== null && expiresAt <= expiringBefore
  if (state !== 'valid') return <State mood={state === 'revoked' ? 'idle' : 'bad'}>{state}</State>
  return (
    <>
      {isSoon ? <State mood="busy">expires soon</State> : <State mood="good">valid</State>}
      {previousSecretUntil === null ? null : (
        <div class="faint">
          earlier secret until <Time at={previousSecretUntil} />
        </div>
      )}
    </>
  )
}
