import {
  type Credential,
  type CredentialKind,
  Credentials,
  ROTATION_OVERLAP_SECONDS_MAX,
} from '../../auth/credentials.ts'
import { argument, command, describeDefault, flag, JSON_OPTION, parsed } from '../command.ts'
import { durationOption, parseUntil } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printJson, printResult, printTable, utcText } from '../printing.ts'
import { loginLines, loginUrl } from '../registry/login.ts'
import { listAll, OPERATOR, withRegistry } from './operator.ts'
import { ACTIONS_DEFAULT, NETWORK_OPTION, RIGHT_OPTIONS } from './right-options.ts'

/** `rookery credential create`: a name and a password for a builder or a host. */
export const createCommand = command({
  arguments: { name: argument('NAME', 'user name of the credential') },
  options: {
    ...RIGHT_OPTIONS,
    admin: flag('allow everything; excludes --repository, --action and --tag'),
    metrics: flag('allow to read /metrics and nothing else; excludes the same, and --admin'),
    ...NETWORK_OPTION,
    expires: parsed('TIME', 'end of the credential: a time, or a duration such as 30d', parseUntil),
    ...JSON_OPTION,
  },
  notes: '--repository, --metrics or --admin is required.',
  examples: [
    [
      "rookery credential create orb-1 --repository 'builds/**' --tag 'v*' --expires 90d",
      'a builder that pushes and pulls version tags for 90 days',
    ],
    [
      'rookery credential create prometheus --metrics',
      'a Prometheus that reads the metrics and nothing else',
    ],
    [
      'rookery credential create host-7 --repository builds/www --action pull',
      'a host that only pulls',
    ],
  ],
  async run(values, environment) {
    const { name, repository, action, tag, network, expires, json } = values
    const kind = kindOf(values)
    const request = {
      name,
      kind,
      repositories: repository ?? [],
      actions: kind === 'builder' ? (action ?? ACTIONS_DEFAULT) : [],
      tags: tag,
      networks: network,
      expiresAt: expires,
    } as const
    return withRegistry(environment, async ({ db, baseUrl }) => {
      const { credential, secret } = await new Credentials(db).create(request, OPERATOR)
      const url = loginUrl(baseUrl, credential.name, secret)
      printResult(json, { ...credential, secret, url }, createdLines(credential, secret, url))
      return STATUS.ok
    })
  },
})

type RequestedKind = {
  readonly admin: boolean
  readonly metrics: boolean
  readonly repository: readonly string[] | undefined
  readonly action: readonly string[] | undefined
  readonly tag: readonly string[] | undefined
}

function kindOf({ admin, metrics, ...restrictions }: RequestedKind): CredentialKind {
  if (admin && metrics) throw new UsageError('--admin and --metrics exclude each other')
  const isRestricted = [restrictions.repository, restrictions.action, restrictions.tag].some(
    (one) => one !== undefined,
  )
  if (admin && isRestricted) {
    throw new UsageError('--admin allows everything and excludes --repository, --action and --tag')
  }
  if (metrics && isRestricted) {
    throw new UsageError(
      '--metrics concerns no repository and excludes --repository, --action and --tag',
    )
  }
  if (admin) return 'admin'
  if (metrics) return 'metrics'
  if (restrictions.repository !== undefined) return 'builder'
  throw new UsageError(
    "--repository, --metrics or --admin is required, such as --repository 'builds/**'",
  )
}

export const listCommand = command({
  options: JSON_OPTION,
  examples: [['rookery credential list', 'list all credentials']],
  async run({ json }, environment) {
    return withRegistry(environment, async ({ db }) => {
      const stored = new Credentials(db)
      const credentials = await listAll((last, limit) => stored.list(last, limit))
      if (json) printJson({ credentials })
      else printTable(HEADINGS, credentials.map(cellsOf))
      return STATUS.ok
    })
  },
})

export const rotateCommand = command({
  arguments: { name: argument('NAME', 'user name of the credential') },
  options: {
    overlap: describeDefault(
      durationOption('how long the old password works as well', ROTATION_OVERLAP_SECONDS_MAX),
      '1d',
    ),
    now: flag('end the old password at once'),
    ...JSON_OPTION,
  },
  notes:
    'Logins that docker stored (refresh tokens) end with the old password. Webhooks and upload URLs of the credential stay, and its tokens last until they expire.',
  examples: [
    ['rookery credential rotate orb-1 --overlap 2h', 'change the builder within two hours'],
    ['rookery credential rotate orb-1 --now', 'replace a password that leaked'],
  ],
  async run({ name, overlap, now, json }, environment) {
    if (now && overlap !== undefined) {
      throw new UsageError('--overlap and --now exclude each other')
    }
    return withRegistry(environment, async ({ db, baseUrl }) => {
      const { credential, secret } = await new Credentials(db).rotate(
        name,
        now ? 0 : overlap,
        OPERATOR,
      )
      const url = loginUrl(baseUrl, credential.name, secret)
      printResult(json, { ...credential, secret, url }, [
        ...createdLines(credential, secret, url),
        '',
        now ? 'The old password ended.' : `The old password works ${earlierText(credential)}.`,
      ])
      return STATUS.ok
    })
  },
})

function earlierText({ previousSecretUntil: until }: Credential): string {
  return until === null ? 'no more' : `until ${utcText(until)}`
}

export const revokeCommand = command({
  arguments: { name: argument('NAME', 'user name of the credential') },
  options: JSON_OPTION,
  examples: [['rookery credential revoke orb-1', 'refuse orb-1 and its tokens within seconds']],
  async run({ name, json }, environment) {
    return withRegistry(environment, async ({ db }) => {
      await new Credentials(db).revoke(name, OPERATOR)
      const line = `${name} and all tokens issued from it are refused within seconds.`
      printResult(json, { revoked: name }, [line])
      return STATUS.ok
    })
  },
})

function createdLines(credential: Credential, secret: string, url: string): string[] {
  const { host, protocol } = new URL(url)
  const plainHttp = protocol === 'http:'
  const { oras, curl } = loginLines({
    host,
    plainHttp,
    username: credential.name,
    password: secret,
  })
  return [
    `Credential ${credential.name} ${scopeText(credential)}.`,
    '',
    `  user      ${credential.name}`,
    `  password  ${secret}`,
    `  URL       ${url}`,
    '',
    'The password is not stored and not shown again. To log in:',
    '',
    `  ${oras}`,
    `  ${curl}`,
  ]
}

function scopeText(credential: Credential): string {
  const { kind, actions, repositories, tags, networks, expiresAt } = credential
  return [
    kind === 'builder'
      ? `may ${actions.join(', ')} in ${repositories.join(', ')}`
      : kind === 'metrics'
        ? 'may read the metrics'
        : 'may do everything',
    ...(tags === null ? [] : [`tags ${tags.join(', ')}`]),
    ...(networks === null ? [] : [`from ${networks.join(', ')}`]),
    ...(expiresAt === null ? [] : [`until ${utcText(expiresAt)}`]),
  ].join('; ')
}

const HEADINGS = [
  'NAME',
  'STATE',
  'ACTIONS',
  'REPOSITORIES',
  'TAGS',
  'NETWORKS',
  'EXPIRES',
  'LAST USED',
]

type TextOfKind = Readonly<Partial<Record<Credential['kind'], string>>>
const ACTIONS_OF_KIND: TextOfKind = { admin: 'everything', metrics: 'metrics' }
const REPOSITORIES_OF_KIND: TextOfKind = { admin: 'all', metrics: 'none' }

function cellsOf(one: Credential): string[] {
  return [
    one.name,
    one.previousSecretUntil === null
      ? one.state
      : `${one.state}, earlier password ${earlierText(one)}`,
    ACTIONS_OF_KIND[one.kind] ?? one.actions.join(','),
    REPOSITORIES_OF_KIND[one.kind] ?? one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    one.networks?.join(',') ?? 'any',
    one.expiresAt === null ? 'never' : utcText(one.expiresAt),
    one.usedAt === null ? 'never' : utcText(one.usedAt),
  ]
}
