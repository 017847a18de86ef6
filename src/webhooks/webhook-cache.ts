import type { Grant } from '../auth/access.ts'
import type { MasterKey } from '../auth/master-key.ts'
import type { Database, Queryable } from '../db/database.ts'
import {
  type CachedWebhookRow,
  listAllWebhooks,
  readWebhookChangeCount,
} from '../db/webhooks/webhooks.ts'
import { decryptSecrets } from './encrypted-secrets.ts'
import type { Signature, Webhook, WebhookFormat, WebhookSecrets } from './webhook.ts'

/** Caches all webhooks in this process, and reads them again after a change. */
export class WebhookCache {
  readonly #db: Database
  readonly #masterKey: MasterKey
  #webhooks: ReadonlyMap<number, Webhook> = new Map()
  #secrets = new Map<string, WebhookSecrets | undefined>()
  #changeCount = -1

  constructor(db: Database, masterKey: MasterKey) {
    this.#db = db
    this.#masterKey = masterKey
  }

  /** Returns all webhooks by id. Costs one small statement when nothing has changed. */
  async current(db: Queryable = this.#db): Promise<ReadonlyMap<number, Webhook>> {
    const changeCount = await readWebhookChangeCount(db)
    if (changeCount === this.#changeCount) return this.#webhooks
    // The count is read first: a change between the two statements only causes one more reading.
    const rows = await listAllWebhooks(db)
    const secrets = new Map<string, WebhookSecrets | undefined>()
    const webhooks = new Map<number, Webhook>()
    for (const row of rows) {
      const decrypted = this.#secrets.has(row.secretsJwe)
        ? this.#secrets.get(row.secretsJwe)
        : await decryptSecrets(this.#masterKey, row.secretsJwe)
      secrets.set(row.secretsJwe, decrypted)
      webhooks.set(row.id, webhookOf(row, decrypted))
    }
    this.#webhooks = webhooks
    this.#secrets = secrets
    this.#changeCount = changeCount
    return webhooks
  }
}

/** The columns hold only values that were validated when the webhook was written. */
function webhookOf(row: CachedWebhookRow, secrets: WebhookSecrets | undefined): Webhook {
  const { repositories, tags, types } = row
  return {
    id: row.id,
    name: row.name,
    identity: row.identity,
    url: row.url,
    filter: { repositories, tags, types },
    format: row.format as WebhookFormat,
    body: row.body,
    signatures: row.signatures as Signature[],
    oidcAudience: row.oidcAudience,
    headers: row.headers,
    maxAgeSeconds: row.maxAgeSeconds,
    coalesceTags: row.coalesceTags,
    state: row.state,
    owner: { origin: row.ownerOrigin, grants: row.ownerGrants as Grant[] | null },
    secrets,
  }
}
