import { OVERLAP_SECONDS_MAX } from '../../webhooks/management/secrets.ts'
import type { CreatedWebhook, WebhookView } from '../../webhooks/management/types.ts'
import { type Command, parseArguments, parseOptions, STATUS, UsageError } from '../command.ts'
import { parseDuration } from '../durations.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { webhookDeliveryCommands } from './deliveries.ts'
import {
  CLEARABLE,
  readSettings,
  SETTING_OPTIONS,
  SETTING_USAGE,
  secretOf,
  withCleared,
} from './settings.ts'
import { webhookLines, webhookTable } from './webhook-text.ts'
import { DESK_OPTIONS, DESK_USAGE, withWebhookAdmin } from './with-webhook-admin.ts'

const JSON_OPTION = { json: { type: 'boolean', default: false } } as const

const createCommand: Command = {
  words: ['webhook', 'create'],
  usage: `NAME URL --repository GLOB... ${SETTING_USAGE} [--secret-file FILE|-] [--paused] ${DESK_USAGE} [--json]`,
  summary: 'Tell an address of what happens to images; its secret is shown once',
  run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        ...SETTING_OPTIONS,
        'secret-file': { type: 'string' },
        paused: { type: 'boolean', default: false },
        ...DESK_OPTIONS,
        ...JSON_OPTION,
      },
      ['NAME', 'URL'],
    )
    if (values.repository === undefined) {
      throw new UsageError("--repository must say what of, such as 'builds/**'")
    }
    const [name = '', url = ''] = positionals
    return withWebhookAdmin(values, environment, async (desk) => {
      const settings = await readSettings(values)
      const secret = await secretOf(values['secret-file'], 'a signing secret')
      const { repositories = [] } = settings
      const { paused } = values
      const made = await desk.create({ ...settings, name, url, repositories, secret, paused })
      if (values.json) printJson(made)
      else printLines([...webhookLines(made).map(visible), '', ...secretLines(made)])
      return STATUS.ok
    })
  },
}

const listCommand: Command = {
  words: ['webhook', 'list'],
  usage: `${DESK_USAGE} [--json]`,
  summary: 'List the webhooks: whom they tell, of what, and whether that works',
  run(args, environment) {
    const values = parseOptions(args, { ...DESK_OPTIONS, ...JSON_OPTION })
    return withWebhookAdmin(values, environment, async (desk) => {
      const webhooks = await desk.list()
      if (values.json) printJson({ webhooks })
      else printLines(webhooks.length === 0 ? ['There are none.'] : webhookTable(webhooks))
      return STATUS.ok
    })
  },
}

const showCommand: Command = {
  words: ['webhook', 'show'],
  usage: `NAME ${DESK_USAGE} [--json]`,
  summary: 'Show whom a webhook tells of what, how it fares, and why it is disabled',
  run(args, environment) {
    const { values, positionals } = parseArguments(args, { ...DESK_OPTIONS, ...JSON_OPTION }, [
      'NAME',
    ])
    return withWebhookAdmin(values, environment, async (desk) => {
      print(values.json, await desk.find(positionals[0] ?? ''))
      return STATUS.ok
    })
  },
}

const updateCommand: Command = {
  words: ['webhook', 'update'],
  usage: `NAME [--url URL] [--repository GLOB...] ${SETTING_USAGE} [--clear ${CLEARABLE.join('|')}...] [--pause | --resume] ${DESK_USAGE} [--json]`,
  summary: 'Change what is given, --clear takes back, --resume also brings a disabled one back',
  run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        url: { type: 'string' },
        ...SETTING_OPTIONS,
        clear: { type: 'string', multiple: true },
        pause: { type: 'boolean', default: false },
        resume: { type: 'boolean', default: false },
        ...DESK_OPTIONS,
        ...JSON_OPTION,
      },
      ['NAME'],
    )
    const { url, pause, resume } = values
    if (pause && resume) throw new UsageError('--pause and --resume contradict each other')
    const paused = pause || resume ? pause : undefined
    const name = positionals[0] ?? ''
    return withWebhookAdmin(values, environment, async (desk) => {
      const settings = await readSettings(values)
      const change = withCleared({ ...settings, url, paused }, values.clear)
      print(values.json, await desk.change(name, change))
      return STATUS.ok
    })
  },
}

const deleteCommand: Command = {
  words: ['webhook', 'delete'],
  usage: `NAME ${DESK_USAGE} [--json]`,
  summary: 'End a webhook; what was not delivered is not sent any more',
  run(args, environment) {
    const { values, positionals } = parseArguments(args, { ...DESK_OPTIONS, ...JSON_OPTION }, [
      'NAME',
    ])
    const name = positionals[0] ?? ''
    return withWebhookAdmin(values, environment, async (desk) => {
      await desk.remove(name)
      if (values.json) printJson({ deleted: name })
      else printLines([`${visible(name)} is told nothing any more.`])
      return STATUS.ok
    })
  },
}

const rotateCommand: Command = {
  words: ['webhook', 'rotate-secret'],
  usage: `NAME [--secret-file FILE|-] [--overlap 1d | --now] ${DESK_USAGE} [--json]`,
  summary: 'Give a webhook another secret, shown once; the old one signs beside it for a while',
  run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      {
        'secret-file': { type: 'string' },
        overlap: { type: 'string' },
        now: { type: 'boolean', default: false },
        ...DESK_OPTIONS,
        ...JSON_OPTION,
      },
      ['NAME'],
    )
    const { overlap, now } = values
    if (now && overlap !== undefined) {
      throw new UsageError('--overlap and --now contradict each other')
    }
    const seconds =
      overlap === undefined ? undefined : parseDuration('overlap', overlap, OVERLAP_SECONDS_MAX)
    return withWebhookAdmin(values, environment, async (desk) => {
      const secret = await secretOf(values['secret-file'], 'a signing secret')
      const made = await desk.rotateSecret(positionals[0] ?? '', secret, now ? 0 : seconds)
      if (values.json) printJson(made)
      else printLines([...webhookLines(made).map(visible), '', ...secretLines(made)])
      return STATUS.ok
    })
  },
}

/** Webhooks on the command line: of the registry on this machine, or of one far away. */
export const webhookCommands: readonly Command[] = [
  createCommand,
  listCommand,
  showCommand,
  updateCommand,
  deleteCommand,
  ...webhookDeliveryCommands,
  rotateCommand,
]

function print(json: boolean, webhook: WebhookView): void {
  if (json) printJson(webhook)
  else printLines(webhookLines(webhook).map(visible))
}

function secretLines({ secret }: CreatedWebhook): string[] {
  return [`secret       ${secret}`, '', 'The secret is not shown again. Receivers verify with it.']
}
