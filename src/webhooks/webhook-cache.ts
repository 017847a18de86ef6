import type { Grant } from '../auth/access.ts'
import type { MasterKey } from '../auth/master-key.ts'
import type { Database, Queryable } from '../db/database.ts'
import { type CachedWebhookRow, listAllWebhooks, readWebhookChangeCount } from '../db/endpoints.ts'
import type { Signature, Webhook, WebhookFormat, WebhookSecrets } from './webhook.ts'

/** The endpoints as this process knows them; they are read again when one was changed. */
export class WebhookCache {
  readonly #db: Database
  readonly #masterKey: MasterKey
  #known: ReadonlyMap<number, Webhook> = new Map()
  #secrets = new Map<string, WebhookSecrets | undefined>()
  #changes = -1

  constructor(db: Database, masterKey: MasterKey) {
    this.#db = db
    this.#masterKey = masterKey
  }

  /** All that were not removed, by their ids. One small statement when nothing was changed. */
  async current(db: Queryable = this.#db): Promise<ReadonlyMap<number, Webhook>> {
    const changes = await readWebhookChangeCount(db)
    if (changes === this.#changes) return this.#known
    // The count first: what changes in between is then only read once more.
    const rows = await listAllWebhooks(db)
    const secrets = new Map<string, WebhookSecrets | undefined>()
    const known = new Map<number, Webhook>()
    for (const row of rows) {
      const opened = this.#secrets.has(row.secretsJwe)
        ? this.#secrets.get(row.secretsJwe)
        : await this.#open(row.secretsJwe)
      secrets.set(row.secretsJwe, opened)
      known.set(row.id, endpointOf(row, opened))
    }
    this.#known = known
    this.#secrets = secrets
    this.#changes = changes
    return known
  }

  async #open(jwe: string): Promise<WebhookSecrets | undefined> {
    const text = await this.#masterKey.decrypt(jwe)
    return text === undefined ? undefined : (JSON.parse(text) as WebhookSecrets)
  }
}

/** The columns hold only what was checked when the endpoint was written. */
function endpointOf(row: CachedWebhookRow, secrets: WebhookSecrets | undefined): Webhook {
  const { repositories, tags, types } = row
  return {
    id: row.id,
    name: row.name,
    url: row.url,
    filter: { repositories, tags, types },
    format: row.format as WebhookFormat,
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
