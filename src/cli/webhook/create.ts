import {
  argument,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  required,
  value,
} from '../command.ts'
import { STATUS } from '../errors.ts'
import { printResult } from '../printing.ts'
import { readOptionalSecret, readSettings, readUrl, SETTING_OPTIONS } from './settings.ts'
import { createdLines } from './webhook-text.ts'
import { WEBHOOK_ADMIN_OPTIONS, withWebhookAdmin } from './with-webhook-admin.ts'

/** `rookery webhook create`: a webhook and its signing secret. */
export const createCommand = command({
  arguments: {
    name: argument('NAME', 'name of the webhook'),
    url: argument('URL', 'address that receives the events; - for standard input'),
  },
  options: {
    ...SETTING_OPTIONS,
    repository: required(SETTING_OPTIONS.repository),
    secretFile: describeDefault(
      value('FILE', 'signing secret in FILE; - for standard input'),
      'a new secret',
    ),
    paused: flag('store events without sending them until webhook update --resume'),
    ...JSON_OPTION,
    ...WEBHOOK_ADMIN_OPTIONS,
  },
  examples: [
    [
      [
        'rookery webhook create deploy https://deploy.example.org/hook \\',
        "  --repository 'builds/**' --type image.tag.updated",
      ].join('\n'),
      'send every change of a tag below builds/',
    ],
  ],
  async run(values, environment) {
    const { name, repository: repositories, paused, json } = values
    const settings = await readSettings(values)
    const url = await readUrl(values.url)
    return withWebhookAdmin(values, environment, async (admin) => {
      const secret = await readOptionalSecret(values.secretFile, 'a signing secret')
      const created = await admin.create({ ...settings, name, url, repositories, secret, paused })
      printResult(json, created, createdLines(created))
      return STATUS.ok
    })
  },
})
