import { describeDefault, type Values, value } from '../command.ts'
import { withHostApi } from '../registry/api-client.ts'
import { LOGIN_OPTIONS } from '../registry/login-options.ts'
import { ApiWebhookAdmin } from './api-webhook-admin.ts'
import type { WebhookAdmin } from './webhook-admin.ts'

/** The options of every command about webhooks. */
export const WEBHOOK_ADMIN_OPTIONS = {
  registry: describeDefault(value('HOST', 'use the API of this registry'), 'the database here'),
  ...LOGIN_OPTIONS,
}

/** Runs `work` on the webhooks of the registry of --registry, or of the registry on this machine. */
export async function withWebhookAdmin(
  options: Values<typeof WEBHOOK_ADMIN_OPTIONS>,
  environment: NodeJS.ProcessEnv,
  work: (admin: WebhookAdmin) => Promise<number>,
): Promise<number> {
  const { registry } = options
  if (registry !== undefined) {
    return withHostApi(registry, options, environment, (api) => work(new ApiWebhookAdmin(api)))
  }
  // Loaded here, so that help does not load the server.
  const { withLocalWebhookAdmin } = await import('./local-webhook-admin.ts')
  return withLocalWebhookAdmin(environment, work)
}
