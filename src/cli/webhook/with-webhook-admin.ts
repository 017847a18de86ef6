import { RegistryError } from '../../oci/errors.ts'
import { createWebhookClient } from '../../server/events.ts'
import { findIssuer, openSigningKeys } from '../../server/signing-keys.ts'
import { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import { Webhooks } from '../../webhooks/management/webhooks.ts'
import { parseNamedRegistry, withApi } from '../registry/registry-api.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE, type LoginOptions } from '../registry/registry-login.ts'
import { allNamed, OPERATOR, withRegistry } from '../server/operator.ts'
import { ApiWebhookAdmin } from './api-webhook-admin.ts'
import type { WebhookAdmin } from './webhook-admin.ts'

/** Options of every command about webhooks. */
export const DESK_OPTIONS = { registry: { type: 'string' }, ...LOGIN_OPTIONS } as const
export const DESK_USAGE = `[--registry HOST ${LOGIN_USAGE}]`

export type DeskOptions = LoginOptions & { readonly registry?: string | undefined }

/** Runs `work` with the webhooks of the registry that is named, or of the one on this machine. */
export function withWebhookAdmin(
  options: DeskOptions,
  environment: NodeJS.ProcessEnv,
  work: (desk: WebhookAdmin) => Promise<number>,
): Promise<number> {
  const { registry } = options
  if (registry !== undefined) {
    const named = () => parseNamedRegistry(registry, options)
    return withApi(named, options, environment, (api) => work(new ApiWebhookAdmin(api)))
  }
  return withLocalDesk(environment, work)
}

function withLocalDesk(
  environment: NodeJS.ProcessEnv,
  work: (desk: WebhookAdmin) => Promise<number>,
): Promise<number> {
  return withRegistry(environment, async (state, config) => {
    const { masterKey } = await openSigningKeys(state, config)
    const issuer = await findIssuer(state.db, config)
    const client = createWebhookClient(config)
    try {
      // The registry that runs looks each second for what is to be sent.
      const onCommitted = () => {}
      const { db } = state
      const webhooks = new Webhooks({ db, masterKey, issuer, client, onCommitted })
      return await work(deskOf(webhooks, new WebhookDeliveries({ db, onDue: onCommitted })))
    } finally {
      client.close()
    }
  })
}

/** Whoever may run commands on this machine may do everything. */
const MANAGER = { actor: OPERATOR, grants: null } as const

function deskOf(webhooks: Webhooks, deliveries: WebhookDeliveries): WebhookAdmin {
  return {
    create: (request) => webhooks.create(request, MANAGER),
    list: () => allNamed((last, limit) => webhooks.list(last, limit, MANAGER)),
    find: (name) => webhooks.read(name, MANAGER),
    change: (name, change) => webhooks.change(name, change, MANAGER),
    remove: (name) => webhooks.remove(name, MANAGER),
    test: (name) => webhooks.test(name, MANAGER),
    rotateSecret: (name, secret, overlap) => webhooks.rotateSecret(name, secret, overlap, MANAGER),
    async deliveries(name, state, limit) {
      const question = { state, before: undefined, limit }
      return (await deliveries.list(name, question, MANAGER)).deliveries
    },
    delivery: (name, event) => presentOnly(() => deliveries.read(name, event, MANAGER)),
    redeliver: (name, event) => deliveries.redeliver(name, event, MANAGER),
    redeliverRange: (name, range) => deliveries.redeliverRange(name, range, MANAGER),
  }
}

async function presentOnly<T>(find: () => Promise<T>): Promise<T | undefined> {
  try {
    return await find()
  } catch (error) {
    if (error instanceof RegistryError && error.code === 'NOT_FOUND') return undefined
    throw error
  }
}
