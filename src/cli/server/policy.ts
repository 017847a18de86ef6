import {
  POLICY_TOKEN_SECONDS_MAX,
  type PolicyCheck,
  type PolicyExplanation,
  TrustPolicies,
  type TrustPolicy,
} from '../../auth/trust/policies.ts'
import { createIssuerClient } from '../../server/auth.ts'
import {
  argument,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  repeated,
  required,
  value,
} from '../command.ts'
import { durationOption, durationText } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { readSecretArgument } from '../input.ts'
import { printJson, printLines, printResult, printTable, visible } from '../printing.ts'
import { listAll, OPERATOR, withRegistry } from './operator.ts'
import { ACTIONS_DEFAULT, RIGHT_OPTIONS } from './right-options.ts'

const NAME = { name: argument('NAME', 'name of the trust policy') }

/** `rookery policy create`: which identity tokens of which issuer are exchanged for which tokens. */
export const createCommand = command({
  arguments: NAME,
  options: {
    issuer: required(value('URL', 'issuer of the identity tokens, such as https://gitlab.com')),
    audience: required(value('TEXT', 'audience of the identity tokens: their claim aud')),
    condition: required(
      repeated('CLAIM=GLOB', 'claim that must match, such as repository=octo/kernel'),
    ),
    ...RIGHT_OPTIONS,
    repository: required(RIGHT_OPTIONS.repository),
    ttl: describeDefault(durationOption('lifetime of the tokens', POLICY_TOKEN_SECONDS_MAX), '15m'),
    allowAdmin: flag('confirm the action admin for an issuer that many owners share'),
    ...JSON_OPTION,
  },
  notes: 'All named claims must match; several globs of one claim are alternatives.',
  examples: [
    [
      [
        'rookery policy create www-ci --repository builds/www \\',
        '  --issuer https://token.actions.githubusercontent.com \\',
        '  --audience registry.example.org \\',
        '  --condition repository=octo/www --condition ref=refs/heads/main',
      ].join('\n'),
      'let a GitHub workflow on the main branch push',
    ],
  ],
  async run(values, environment) {
    const { name, issuer, audience, condition, repository, action, tag, ttl, allowAdmin, json } =
      values
    const conditions = parseConditions(condition)
    const request = {
      name,
      issuer,
      audience,
      conditions,
      repositories: repository,
      actions: action ?? ACTIONS_DEFAULT,
      tags: tag,
      tokenSeconds: ttl,
      allowAdmin,
    }
    return withPolicies(environment, async (policies) => {
      const policy = await policies.create(request, OPERATOR)
      printResult(json, policy, policyLines(policy))
      return STATUS.ok
    })
  },
})

export const listCommand = command({
  options: JSON_OPTION,
  examples: [['rookery policy list', 'list all trust policies']],
  async run({ json }, environment) {
    return withPolicies(environment, async (stored) => {
      const policies = await listAll((last, limit) => stored.list(last, limit))
      if (json) printJson({ policies })
      else {
        printTable(HEADINGS, policies.map(cellsOf))
        printLines(
          policies.flatMap(({ name, warnings }) =>
            warnings.map((text) => visible(`${name}: ${text}`)),
          ),
        )
      }
      return STATUS.ok
    })
  },
})

export const removeCommand = command({
  arguments: NAME,
  options: JSON_OPTION,
  examples: [['rookery policy remove www-ci', 'refuse its tokens within seconds']],
  async run({ name, json }, environment) {
    return withPolicies(environment, async (policies) => {
      await policies.remove(name, OPERATOR)
      const line = `${name} and all tokens issued by it are refused within seconds.`
      printResult(json, { removed: name }, [line])
      return STATUS.ok
    })
  },
})

export const testCommand = command({
  arguments: { token: argument('TOKEN', '- to read the identity token from standard input') },
  options: JSON_OPTION,
  notes: 'The exit status is 1 when no trust policy matches.',
  examples: [
    ['echo "$ID_TOKEN" | rookery policy test -', 'test a token from standard input'],
    ['rookery policy test - --json < id-token', 'test a token from a file'],
  ],
  async run({ token, json }, environment) {
    const text = await readSecretArgument(token, 'an identity token')
    return withPolicies(environment, async (policies) => {
      const explanation = await policies.explain(text.trim())
      printResult(json, explanation, explanationLines(explanation))
      return explanation.matches === null ? STATUS.found : STATUS.ok
    })
  },
})

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

/** Parses `claim=glob`, split at the first `=`. Throws UsageError. */
function parseConditions(texts: readonly string[]): Record<string, string[]> {
  const conditions = new Map<string, string[]>()
  for (const text of texts) {
    const at = text.indexOf('=')
    if (at < 1) {
      throw new UsageError(`--condition must be claim=value or claim=glob*, not "${text}"`)
    }
    const claim = text.slice(0, at)
    conditions.set(claim, [...(conditions.get(claim) ?? []), text.slice(at + 1)])
  }
  return Object.fromEntries(conditions)
}

function policyLines(policy: TrustPolicy): string[] {
  const { name, issuer, audience, conditions, repositories, actions, tags, tokenSeconds } = policy
  const [first = '', ...others] = conditionTexts(conditions)
  const rows = [
    ['policy', name],
    ['issuer', issuer],
    ['audience', audience],
    ['conditions', first],
    ...others.map((text) => ['', text]),
    ['actions', actions.join(', ')],
    ['repositories', repositories.join(', ')],
    ['tags', tags?.join(', ') ?? 'any'],
    ['token lifetime', durationText(tokenSeconds)],
    ...policy.warnings.map((text) => ['warning', text]),
  ]
  return rows.map(([label = '', text = '']) => visible(`${label.padEnd(LABEL_COLUMNS)}${text}`))
}

const LABEL_COLUMNS = 16

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
  'TOKEN LIFETIME',
]

function cellsOf(one: TrustPolicy): string[] {
  return [
    one.name,
    one.issuer,
    one.audience,
    conditionTexts(one.conditions).join(' '),
    one.actions.join(','),
    one.repositories.join(','),
    one.tags?.join(',') ?? 'any',
    durationText(one.tokenSeconds),
  ]
}

function explanationLines({ issuer, subject, matches, policies }: PolicyExplanation): string[] {
  return [
    `Identity token of ${issuer} for ${subject}`,
    ...policies.flatMap((policy) => [
      '',
      `${policy.name}: ${policy.matches ? 'matches' : 'does not match'}`,
      ...policy.checks.map(checkText),
    ]),
    '',
    policies.length === 0
      ? 'No trust policy has this issuer.'
      : matches === null
        ? 'No trust policy matches: the token would be refused.'
        : `The trust policy ${matches} would exchange it.`,
  ].map(visible)
}

function checkText({ check, claim, holds, wanted, found, problem }: PolicyCheck): string {
  const result = `  ${holds ? 'ok    ' : 'FAILS '} ${claim === null ? check : `${check} ${claim}`}`
  if (problem !== null) return `${result}: ${problem}`
  if (wanted.length === 0) return result
  const actual = found.length === 0 ? 'nothing' : found.map((text) => `"${text}"`).join(', ')
  return `${result}: wanted ${wanted.map((text) => `"${text}"`).join(' or ')}, found ${actual}`
}
