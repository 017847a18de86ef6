import { RegistryError } from '../../oci/errors.ts'
import { createWebhookClient } from '../../server/events.ts'
import { findIssuer, openSigningKeys } from '../../server/signing-keys.ts'
import { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import { Webhooks } from '../../webhooks/management/webhooks.ts'
import { describeDefault, type Values, value } from '../command.ts'
import { withHostApi } from '../registry/api-client.ts'
import { LOGIN_OPTIONS } from '../registry/login-options.ts'
import { listAll, OPERATOR, withRegistry } from '../server/operator.ts'
import { ApiWebhookAdmin } from './api-webhook-admin.ts'
import type { WebhookAdmin } from './webhook-admin.ts'

/** The options of every command about webhooks. */
export const WEBHOOK_ADMIN_OPTIONS = {
  registry: describeDefault(value('HOST', 'use the API of this registry'), 'the database here'),
  ...LOGIN_OPTIONS,
}

/** Runs `work` on the webhooks of the registry of --registry, or of the registry on this machine. */
export function withWebhookAdmin(
  options: Values<typeof WEBHOOK_ADMIN_OPTIONS>,
  environment: NodeJS.ProcessEnv,
  work: (admin: WebhookAdmin) => Promise<number>,
): Promise<number> {
  const { registry } = options
  if (registry === undefined) return withLocalAdmin(environment, work)
  return withHostApi(registry, options, environment, (api) => work(new ApiWebhookAdmin(api)))
}

function withLocalAdmin(
  environment: NodeJS.ProcessEnv,
  work: (admin: WebhookAdmin) => Promise<number>,
): Promise<number> {
  return withRegistry(environment, async (state, config) => {
    const { masterKey } = await openSigningKeys(state, config)
    const issuer = await findIssuer(state.db, config)
    const client = createWebhookClient(config)
    try {
      // The running registry polls for due deliveries every second.
      const onCommitted = () => {}
      const { db } = state
      const webhooks = new Webhooks({ db, masterKey, issuer, client, onCommitted })
      return await work(adminOf(webhooks, new WebhookDeliveries({ db, onDue: onCommitted })))
    } finally {
      client.close()
    }
  })
}

/** The operator on this machine may do everything. */
const MANAGER = { actor: OPERATOR, grants: null } as const

function adminOf(webhooks: Webhooks, deliveries: WebhookDeliveries): WebhookAdmin {
  return {
    create: (request) => webhooks.create(request, MANAGER),
    list: () => listAll((last, limit) => webhooks.list(last, limit, MANAGER)),
    find: (name) => webhooks.read(name, MANAGER),
    change: (name, change) => webhooks.change(name, change, MANAGER),
    remove: (name) => webhooks.remove(name, MANAGER),
    test: (name) => webhooks.test(name, MANAGER),
    rotateSecret: (name, secret, overlap) => webhooks.rotateSecret(name, secret, overlap, MANAGER),
    async deliveries(name, state, limit) {
      const filter = { state, before: undefined, limit }
      return (await deliveries.list(name, filter, MANAGER)).deliveries
    },
    delivery: (name, event) => orUndefined(() => deliveries.read(name, event, MANAGER)),
    redeliver: (name, event) => deliveries.redeliver(name, event, MANAGER),
    redeliverRange: (name, range) => deliveries.redeliverRange(name, range, MANAGER),
  }
}

async function orUndefined<T>(find: () => Promise<T>): Promise<T | undefined> {
  try {
    return await find()
  } catch (error) {
    if (error instanceof RegistryError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}
