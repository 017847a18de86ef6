import { isObject } from '../../oci/descriptor.ts'
import {
  argument,
  choice,
  command,
  describeDefault,
  JSON_OPTION,
  list,
  parsed,
  repeated,
  required,
  value,
} from '../command.ts'
import { durationOption, durationText } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, visible } from '../printing.ts'
import { withHostApi } from './api-client.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

const HOST = { host: argument('HOST', 'registry, such as registry.example.org') }
const NAME = { ...HOST, name: argument('NAME', 'rollout, such as web') }
const HOUR_SECONDS = 3600
const DAY_SECONDS = 86_400

/** A rollout in an answer of the API: spec/openapi.yaml, Rollout. */
type Rollout = {
  readonly name: string
  readonly repositories: readonly string[]
  readonly tags: readonly string[]
  readonly canary: number | string
  readonly batch: number | string | null
  readonly order: string
  readonly settleSeconds: number
  readonly deadlineSeconds: number
  readonly pauseAfter: string | null
  readonly maxFailures: number | string
  readonly onFailure: string
  readonly require: Readonly<Record<string, string>>
}

/** `rookery rollout list`: the rollouts of a registry. */
export const listCommand = command({
  arguments: HOST,
  options: { ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'The first rollout in the order of names whose globs match repository and tag is used.',
  examples: [['rookery rollout list registry.example.org', 'list rollouts by name']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const path = '/api/v1/rollouts'
      const { items, more } = await api.listUpTo(path, 'rollouts', 'the rollouts', values.limit)
      if (values.json) printJson({ rollouts: items, more })
      else printTable(HEADINGS, (items as Rollout[]).map(cellsOf))
      if (!values.json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})

/** `rookery rollout show`: one rollout. */
export const showCommand = command({
  arguments: NAME,
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [['rookery rollout show registry.example.org web', 'show its rules']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const rollout = await api.find(pathOf(values.name), `the rollout ${values.name}`)
      printResult(values.json, rollout, linesOf(rollout))
      return STATUS.ok
    })
  },
})

/** `rookery rollout set`: creates or replaces a rollout. */
export const setCommand = command({
  arguments: NAME,
  options: {
    repository: required(repeated('GLOB', "repositories such as 'builds/**'")),
    tag: describeDefault(repeated('GLOB', "tags such as 'live'"), "'**'"),
    canary: describeDefault(
      parsed('N|N%', 'units that are updated first, alone', parseAmount),
      '0',
    ),
    batch: describeDefault(parsed('N|N%', 'units at a time after them', parseAmount), 'all'),
    order: describeDefault(value('LABEL', 'order of the hosts: name, or a label first'), 'name'),
    settle: describeDefault(
      durationOption('a unit must stay healthy for so long', HOUR_SECONDS),
      '30s',
    ),
    deadline: describeDefault(durationOption('a unit may take so long', DAY_SECONDS), '5m'),
    pauseAfter: choice('STEP', ['canary', 'batch'], 'wait for rookery deploy resume after it'),
    maxFailures: describeDefault(parsed('N|N%', 'failures that are no end', parseAmount), '0'),
    onFailure: describeDefault(
      choice('ACTION', ['halt', 'rollback'], 'stop, or move the tag back'),
      'halt',
    ),
    require: list('LABEL=VALUE', 'only hosts with this label'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'Replaces all rules of the rollout. Deployments that have begun keep theirs. The login must administer the repositories.',
  examples: [
    [
      "rookery rollout set registry.example.org web --repository 'builds/**' --tag live --canary 1 --batch 25%",
      'one host first, then a quarter at a time',
    ],
  ],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const { repository, tag, canary, batch, order, settle, deadline } = values
      const { pauseAfter, maxFailures, onFailure } = values
      const body = {
        repositories: repository,
        tags: tag ?? ['**'],
        ...{ canary, batch, order, pauseAfter, maxFailures, onFailure },
        ...{ settleSeconds: settle, deadlineSeconds: deadline },
        require: values.require === undefined ? undefined : labelsOf(values.require),
      }
      const path = pathOf(values.name)
      const rollout = await api.send('PUT', path, `the rollout ${values.name}`, body)
      printResult(values.json, rollout, linesOf(rollout))
      return STATUS.ok
    })
  },
})

/** `rookery rollout delete`: its tags are updated everywhere at once again. */
export const deleteCommand = command({
  arguments: NAME,
  options: { ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'Deployments that have begun keep its rules.',
  examples: [['rookery rollout delete registry.example.org web', 'update all hosts at once again']],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const { name } = values
      await api.send('DELETE', pathOf(name), `the rollout ${name}`, undefined)
      printResult(values.json, { name, deleted: true }, [visible(`Deleted rollout ${name}`)])
      return STATUS.ok
    })
  },
})

function pathOf(name: string): string {
  return `/api/v1/rollouts/${encodeURIComponent(name)}`
}

const UNITS_MAX = 100_000

/** A number of units, or a share of them such as `25%`. Throws UsageError. */
function parseAmount(flag: string, text: string): number | string {
  const [, digits, percent] = /^(\d{1,6})(%?)$/.exec(text) ?? []
  const amount = Number(digits)
  if (digits !== undefined && amount <= (percent ? 100 : UNITS_MAX)) return percent ? text : amount
  throw new UsageError(`${flag} must be a number such as 2, or a share such as 25%, not "${text}"`)
}

/** Throws UsageError for a text that is not LABEL=VALUE. */
function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf('=')
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
      throw new UsageError(`--require must be LABEL=VALUE, not "${text}"`)
    }),
  )
}

const HEADINGS = ['NAME', 'CANARY', 'BATCH', 'ON FAILURE', 'TAGS', 'REPOSITORIES']

function cellsOf({ name, canary, batch, onFailure, tags, repositories }: Rollout): string[] {
  return [
    name,
    String(canary),
    String(batch ?? 'all'),
    onFailure,
    tags.join(' '),
    repositories.join(' '),
  ]
}

function linesOf(answer: unknown): string[] {
  const rollout: Partial<Rollout> = isObject(answer) ? answer : {}
  const seconds = (number: number | undefined) => (number === undefined ? '' : durationText(number))
  const labels = Object.entries(rollout.require ?? {}).map(([label, text]) => `${label}=${text}`)
  const rows: [string, string][] = [
    ['name', rollout.name ?? ''],
    ['repositories', rollout.repositories?.join(' ') ?? ''],
    ['tags', rollout.tags?.join(' ') ?? ''],
    ['canary', String(rollout.canary)],
    ['batch', String(rollout.batch ?? 'all')],
    ['order', rollout.order ?? ''],
    ['settle', seconds(rollout.settleSeconds)],
    ['deadline', seconds(rollout.deadlineSeconds)],
    ['pause after', rollout.pauseAfter ?? 'nothing'],
    ['max failures', String(rollout.maxFailures)],
    ['on failure', rollout.onFailure ?? ''],
    ['require', labels.join(' ') || 'nothing'],
  ]
  return rows.map(([name, text]) => `${name.padEnd(LABEL_WIDTH)}${visible(text)}`)
}

const LABEL_WIDTH = 14
