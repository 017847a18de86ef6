import { OVERLAP_SECONDS_MAX } from '../../webhooks/management/secrets.ts'
import { argument, command, describeDefault, flag, JSON_OPTION, value } from '../command.ts'
import { durationOption } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printJson, printResult, visible } from '../printing.ts'
import { readOptionalSecret } from './settings.ts'
import { createdLines, printWebhooks, webhookLines } from './webhook-text.ts'
import { WEBHOOK_ADMIN_OPTIONS, withWebhookAdmin } from './with-webhook-admin.ts'

const NAME = { name: argument('NAME', 'name of the webhook') }
const OPTIONS = { ...JSON_OPTION, ...WEBHOOK_ADMIN_OPTIONS }

export const listCommand = command({
  options: OPTIONS,
  examples: [
    ['rookery webhook list', 'list the webhooks of the registry on this machine'],
    ['rookery webhook list --registry registry.example.org', 'list those of another registry'],
  ],
  run(values, environment) {
    return withWebhookAdmin(values, environment, async (admin) => {
      const webhooks = await admin.list()
      if (values.json) printJson({ webhooks })
      else printWebhooks(webhooks)
      return STATUS.ok
    })
  },
})

export const showCommand = command({
  arguments: NAME,
  options: OPTIONS,
  examples: [['rookery webhook show deploy', 'show its settings, health and state']],
  run(values, environment) {
    return withWebhookAdmin(values, environment, async (admin) => {
      const webhook = await admin.find(values.name)
      printResult(values.json, webhook, webhookLines(webhook))
      return STATUS.ok
    })
  },
})

export const deleteCommand = command({
  arguments: NAME,
  options: OPTIONS,
  examples: [['rookery webhook delete deploy', 'send nothing more']],
  run(values, environment) {
    const { name } = values
    return withWebhookAdmin(values, environment, async (admin) => {
      await admin.remove(name)
      printResult(values.json, { deleted: name }, [`Deleted webhook ${visible(name)}.`])
      return STATUS.ok
    })
  },
})

export const rotateSecretCommand = command({
  arguments: NAME,
  options: {
    secretFile: describeDefault(
      value('FILE', 'signing secret in FILE; - for standard input'),
      'a new secret',
    ),
    overlap: describeDefault(
      durationOption('how long the old secret signs as well', OVERLAP_SECONDS_MAX),
      '1d',
    ),
    now: flag('stop signing with the old secret at once'),
    ...OPTIONS,
  },
  examples: [
    ['rookery webhook rotate-secret deploy --overlap 2h', 'change the receiver within two hours'],
  ],
  run(values, environment) {
    const { name, overlap, now } = values
    if (now && overlap !== undefined) {
      throw new UsageError('--overlap and --now exclude each other')
    }
    return withWebhookAdmin(values, environment, async (admin) => {
      const secret = await readOptionalSecret(values.secretFile, 'a signing secret')
      const created = await admin.rotateSecret(name, secret, now ? 0 : overlap)
      printResult(values.json, created, createdLines(created))
      return STATUS.ok
    })
  },
})
