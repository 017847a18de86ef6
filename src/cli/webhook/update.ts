import { argument, command, flag, JSON_OPTION, value } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult } from '../printing.ts'
import { CLEAR_OPTION, readSettings, readUrl, SETTING_OPTIONS, withCleared } from './settings.ts'
import { webhookLines } from './webhook-text.ts'
import { WEBHOOK_ADMIN_OPTIONS, withWebhookAdmin } from './with-webhook-admin.ts'

/** `rookery webhook update`: other settings for a webhook, a pause, or its end. */
export const updateCommand = command({
  arguments: { name: argument('NAME', 'name of the webhook') },
  options: {
    url: value('URL', 'address that receives the events; - for standard input'),
    ...SETTING_OPTIONS,
    ...CLEAR_OPTION,
    pause: flag('store events without sending them'),
    resume: flag('send again, also after the registry disabled the webhook'),
    ...JSON_OPTION,
    ...WEBHOOK_ADMIN_OPTIONS,
  },
  notes: 'Settings without an option stay as they are.',
  examples: [
    ['rookery webhook update deploy --resume', 'send again after a pause or after failures'],
    ['rookery webhook update deploy --clear tag,header', 'all tags, and no more headers'],
  ],
  async run(values, environment) {
    const { name, pause, resume, json } = values
    if (pause && resume) throw new UsageError('--pause and --resume exclude each other')
    const paused = pause || resume ? pause : undefined
    const settings = await readSettings(values)
    const url = values.url === undefined ? undefined : await readUrl(values.url)
    return withWebhookAdmin(values, environment, async (admin) => {
      const change = withCleared({ ...settings, url, paused }, values.clear)
      const changed = await admin.change(name, change)
      printResult(json, changed, webhookLines(changed))
      return STATUS.ok
    })
  },
})
