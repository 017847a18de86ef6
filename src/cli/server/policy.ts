import {
  POLICY_TOKEN_SECONDS_MAX,
  type PolicyCheck,
  type PolicyExplanation,
  TrustPolicies,
  type TrustPolicy,
} from '../../auth/trust/policies.ts'
import { createIssuerClient } from '../../server/auth.ts'
import { type Command, parseArguments, parseOptions, STATUS, UsageError } from '../command.ts'
import { durationText, parseDuration } from '../durations.ts'
import { columns, printJson, printLines, visible } from '../printing.ts'
import { ACTIONS_DEFAULT, allNamed, listOf, OPERATOR, withRegistry } from './operator.ts'

/** `rookery policy create`: whose identity tokens are exchanged for which tokens of ours. */
const createCommand: Command = {
  words: ['policy', 'create'],
  usage:
    'NAME --issuer URL --audience TEXT --condition CLAIM=GLOB... --repository GLOB... [--action pull|push|delete|admin...] [--tag GLOB...] [--ttl 15m] [--json]',
  summary: 'Trust identity tokens of an issuer, such as a CI system; all claims named must hold',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        issuer: { type: 'string' },
        audience: { type: 'string' },
        condition: { type: 'string', multiple: true },
        repository: { type: 'string', multiple: true },
        action: { type: 'string', multiple: true },
        tag: { type: 'string', multiple: true },
        ttl: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
      ['NAME'],
    )
    const request = {
      name: positionals[0] ?? '',
      issuer: needed(
        values.issuer,
        'issuer',
        "whose tokens they are, such as 'https://gitlab.com'",
      ),
      audience: needed(
        values.audience,
        'audience',
        'whom they are meant for, as they have it in aud',
      ),
      conditions: conditionsOf(values.condition),
      repositories: needed(
        listOf(values.repository),
        'repository',
        "where it counts, such as 'builds/**'",
      ),
      actions: listOf(values.action) ?? ACTIONS_DEFAULT,
      tags: listOf(values.tag),
      tokenSeconds:
        values.ttl === undefined
          ? undefined
          : parseDuration('ttl', values.ttl, POLICY_TOKEN_SECONDS_MAX),
    }
    return withPolicies(environment, async (policies) => {
      const policy = await policies.create(request, OPERATOR)
      if (values.json) printJson(policy)
      else printLines(textOf(policy).map(visible))
      return STATUS.ok
    })
  },
}

const listCommand: Command = {
  words: ['policy', 'list'],
  usage: '[--json]',
  summary: 'List the trust policies: whom each trusts, on which conditions, and for what',
  async run(args, environment) {
    const { json } = parseOptions(args, { json: { type: 'boolean', default: false } })
    return withPolicies(environment, async (policies) => {
      const all = await allNamed((last, limit) => policies.list(last, limit))
      if (json) printJson({ policies: all })
      else printLines(all.length === 0 ? ['There are none.'] : tableOf(all))
      return STATUS.ok
    })
  },
}

const removeCommand: Command = {
  words: ['policy', 'remove'],
  usage: 'NAME [--json]',
  summary: 'End a trust policy and all tokens that came from it, on every replica within seconds',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['NAME'],
    )
    const name = positionals[0] ?? ''
    return withPolicies(environment, async (policies) => {
      await policies.remove(name, OPERATOR)
      if (values.json) printJson({ removed: name })
      else printLines([`${name} and all tokens that came from it are refused within seconds.`])
      return STATUS.ok
    })
  },
}

const testCommand: Command = {
  words: ['policy', 'test'],
  usage: 'TOKEN|- [--json]',
  summary:
    'Tell which trust policy an identity token matches, and what fails; - reads it from standard input',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['TOKEN'],
    )
    const token = positionals[0] === '-' ? await readInput() : (positionals[0] ?? '')
    return withPolicies(environment, async (policies) => {
      const explanation = await policies.explain(token.trim())
      if (values.json) printJson(explanation)
      else printLines(explained(explanation).map(visible))
      return explanation.matches === null ? STATUS.found : STATUS.ok
    })
  },
}

/** Trust policies on the command line: made, listed, removed, tried. */
export const policyCommands: readonly Command[] = [
  createCommand,
  listCommand,
  removeCommand,
  testCommand,
]

function withPolicies(
  environment: NodeJS.ProcessEnv,
  work: (policies: TrustPolicies) => Promise<number>,
): Promise<number> {
  return withRegistry(environment, async ({ db }, config) => {
    const client = createIssuerClient(config)
    try {
      return await work(new TrustPolicies({ db, client }))
    } finally {
      client.close()
    }
  })
}

function needed<T>(value: T | undefined, name: string, meaning: string): T {
  if (value === undefined) throw new UsageError(`--${name} must say ${meaning}`)
  return value
}

/** `claim=glob`, split at the first `=`. */
function conditionsOf(texts: readonly string[] | undefined): Record<string, string[]> {
  const conditions = new Map<string, string[]>()
  for (const text of needed(
    texts,
    'condition',
    "whom to trust, such as 'repository=octo/kernel'",
  )) {
    const at = text.indexOf('=')
    if (at < 1)
      throw new UsageError(`--condition is like claim=value or claim=glob*, not "${text}"`)
    const claim = text.slice(0, at)
    conditions.set(claim, [...(conditions.get(claim) ?? []), text.slice(at + 1)])
  }
  return Object.fromEntries(conditions)
}

const INPUT_LENGTH_MAX = 64 * 1024

async function readInput(): Promise<string> {
  let text = ''
  process.stdin.setEncoding('utf8')
  for await (const chunk of process.stdin) {
    text += chunk
    if (text.length > INPUT_LENGTH_MAX) throw new UsageError('standard input is no identity token')
  }
  return text
}

function textOf(policy: TrustPolicy): string[] {
  const { name, issuer, audience, conditions, repositories, actions, tags, tokenSeconds } = policy
  return [
    `Trust policy ${name}: ${issuer} may vouch, to the audience ${audience}, for whoever has`,
    ...conditionTexts(conditions).map((text) => `  ${text}`),
    `who may then ${actions.join(', ')} in ${repositories.join(', ')}${
      tags === null ? '' : `; tags ${tags.join(', ')}`
    }; for ${durationText(tokenSeconds)}.`,
  ]
}

function conditionTexts(conditions: TrustPolicy['conditions']): string[] {
  return Object.entries(conditions).map(([claim, globs]) => `${claim}=${globs.join('|')}`)
}

const HEADINGS = [
  'NAME',
  'ISSUER',
  'AUDIENCE',
  'CONDITIONS',
  'ACTIONS',
  'REPOSITORIES',
  'TAGS',
  'TOKENS LIVE',
]

function tableOf(policies: readonly TrustPolicy[]): string[] {
  const rows = policies.map((one) => [
    one.name,
    one.issuer,
    one.audience,
    conditionTexts(one.conditions).join(' '),
    one.actions.join(','),
    one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    durationText(one.tokenSeconds),
  ])
  return columns(HEADINGS, rows)
}

function explained({ issuer, subject, matches, policies }: PolicyExplanation): string[] {
  return [
    `A token of ${issuer} for ${subject}.`,
    ...policies.flatMap((policy) => [
      '',
      `${policy.name}: ${policy.matches ? 'matches' : 'does not match'}`,
      ...policy.checks.map(checkText),
    ]),
    '',
    policies.length === 0
      ? 'No trust policy trusts this issuer.'
      : matches === null
        ? 'No trust policy matches: the token would be refused.'
        : `It would be exchanged by ${matches}.`,
  ]
}

function checkText({ check, claim, holds, wanted, found, problem }: PolicyCheck): string {
  const what = `  ${holds ? 'ok    ' : 'FAILS '} ${claim === null ? check : `${check} ${claim}`}`
  if (problem !== null) return `${what}: ${problem}`
  if (wanted.length === 0) return what
  const said = found.length === 0 ? 'nothing' : found.map((text) => `"${text}"`).join(', ')
  return `${what}: wanted ${wanted.map((text) => `"${text}"`).join(' or ')}, found ${said}`
}
