import { type Credential, Credentials } from '../../auth/credentials.ts'
import { type Command, parseArguments, parseOptions, STATUS, UsageError } from '../command.ts'
import { parseUntil } from '../durations.ts'
import { columns, printJson, printLines, utcText } from '../printing.ts'
import { loginLines, loginUrl } from '../registry/login.ts'
import {
  ACTIONS_DEFAULT,
  allNamed,
  listOf,
  OPERATOR,
  publicBaseUrl,
  withRegistry,
} from './operator.ts'

/** `rookery credential create`: a secret of its own for whoever pushes or pulls. */
const createCommand: Command = {
  words: ['credential', 'create'],
  usage:
    'NAME (--repository GLOB... [--action pull|push|delete|admin...] [--tag GLOB...] | --admin) [--network CIDR...] [--expires 30d|TIME] [--json]',
  summary: 'Make a credential and print its secret, once; without --action it may pull and push',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        repository: { type: 'string', multiple: true },
        action: { type: 'string', multiple: true },
        tag: { type: 'string', multiple: true },
        network: { type: 'string', multiple: true },
        expires: { type: 'string' },
        admin: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
      },
      ['NAME'],
    )
    const bounds = [values.repository, values.action, values.tag]
    if (values.admin && bounds.some((one) => one !== undefined)) {
      throw new UsageError(
        '--admin may do everything, and takes no --repository, --action or --tag',
      )
    }
    if (!values.admin && values.repository === undefined) {
      throw new UsageError("--repository must say where it counts, such as 'builds/**'")
    }
    const request = {
      name: positionals[0] ?? '',
      kind: values.admin ? 'admin' : 'builder',
      repositories: listOf(values.repository) ?? [],
      actions: values.admin ? [] : (listOf(values.action) ?? ACTIONS_DEFAULT),
      tags: listOf(values.tag),
      networks: listOf(values.network),
      expiresAt: values.expires === undefined ? undefined : parseUntil('expires', values.expires),
    } as const
    return withRegistry(environment, async ({ db }, config) => {
      const { credential, secret } = await new Credentials(db).create(request, OPERATOR)
      const url = loginUrl(publicBaseUrl(config), credential.name, secret)
      if (values.json) printJson({ ...credential, secret, url })
      else printLines(handedOver(credential, secret, url))
      return STATUS.ok
    })
  },
}

const listCommand: Command = {
  words: ['credential', 'list'],
  usage: '[--json]',
  summary: 'List the credentials: what they may do, until when, and when they were last used',
  async run(args, environment) {
    const { json } = parseOptions(args, { json: { type: 'boolean', default: false } })
    return withRegistry(environment, async ({ db }) => {
      const made = new Credentials(db)
      const credentials = await allNamed((last, limit) => made.list(last, limit))
      if (json) printJson({ credentials })
      else printLines(credentials.length === 0 ? ['There are none.'] : tableOf(credentials))
      return STATUS.ok
    })
  },
}

const revokeCommand: Command = {
  words: ['credential', 'revoke'],
  usage: 'NAME [--json]',
  summary: 'End a credential and all tokens that came from it, on every replica within seconds',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['NAME'],
    )
    const name = positionals[0] ?? ''
    return withRegistry(environment, async ({ db }) => {
      await new Credentials(db).revoke(name, OPERATOR)
      if (values.json) printJson({ revoked: name })
      else printLines([`${name} and all tokens that came from it are refused within seconds.`])
      return STATUS.ok
    })
  },
}

/** Credentials on the command line: made, listed, revoked. */
export const credentialCommands: readonly Command[] = [createCommand, listCommand, revokeCommand]

function handedOver(credential: Credential, secret: string, url: string): string[] {
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
    'The password is not kept and not shown again. To use it:',
    '',
    `  ${oras}`,
    `  ${curl}`,
  ]
}

function scopeText(credential: Credential): string {
  const { kind, actions, repositories, tags, networks, expiresAt } = credential
  const what =
    kind === 'admin'
      ? 'may do everything'
      : `may ${actions.join(', ')} in ${repositories.join(', ')}`
  return [
    what,
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

function tableOf(credentials: readonly Credential[]): string[] {
  const rows = credentials.map((one) => [
    one.name,
    one.state,
    one.kind === 'admin' ? 'everything' : one.actions.join(','),
    one.kind === 'admin' ? 'all' : one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    one.networks?.join(',') ?? 'any',
    one.expiresAt === null ? 'never' : utcText(one.expiresAt),
    one.usedAt === null ? 'never' : utcText(one.usedAt),
  ])
  return columns(HEADINGS, rows)
}
