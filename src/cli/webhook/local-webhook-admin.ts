import type { Queryable } from '../../db/database.ts'
import { RegistryError } from '../../oci/errors.ts'
import { createWebhookClients, feedCursors } from '../../server/events.ts'
import { findIssuer, openSigningKeys } from '../../server/signing-keys.ts'
import { WebhookDeliveries } from '../../webhooks/management/deliveries.ts'
import { Webhooks } from '../../webhooks/management/webhooks.ts'
import { listAll, OPERATOR, withRegistry } from '../server/operator.ts'
import type { WebhookAdmin } from './webhook-admin.ts'

/** Runs `work` on the webhooks of the registry on this machine. */
export function withLocalWebhookAdmin(
  environment: NodeJS.ProcessEnv,
  work: (admin: WebhookAdmin) => Promise<number>,
): Promise<number> {
  return withRegistry(environment, async (state, config) => {
    const { masterKey } = await openSigningKeys(state, config)
    const issuer = await findIssuer(state.db, config)
    const clients = createWebhookClients(config)
    try {
      // The running registry polls for due deliveries every second.
      const onCommitted = () => {}
      const { db } = state
      const cursors = feedCursors(masterKey)
      const webhooks = new Webhooks({
        ...{ db, masterKey, issuer, onCommitted, ...clients },
        audiences: config.webhookAudiences,
      })
      return await work(
        adminOf(db, webhooks, new WebhookDeliveries({ db, cursors, onDue: onCommitted })),
      )
    } finally {
      clients.close()
    }
  })
}

/** The operator on this machine may do everything. */
const MANAGER = { actor: OPERATOR, grants: null } as const

function adminOf(db: Queryable, webhooks: Webhooks, deliveries: WebhookDeliveries): WebhookAdmin {
  return {
    create: (request) => webhooks.create(request, MANAGER),
    list: () => listAll((last, limit) => webhooks.list(db, last, limit, MANAGER)),
    find: (name) => webhooks.read(name, MANAGER),
    change: (name, change) => webhooks.change(name, change, MANAGER),
    remove: (name) => webhooks.remove(name, MANAGER),
    test: (name) => webhooks.test(name, MANAGER),
    rotateSecret: (name, secret, overlap) => webhooks.rotateSecret(name, secret, overlap, MANAGER),
    async deliveries(name, state, limit) {
      const filter = { state, before: undefined, limit }
      return (await deliveries.list(db, name, filter, MANAGER)).deliveries
    },
    delivery: (name, event) => orUndefined(() => deliveries.read(db, name, event, MANAGER)),
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
