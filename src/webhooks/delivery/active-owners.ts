import { LRUCache } from 'lru-cache'
import type { Database } from '../../db/database.ts'
import { listActiveOrigins } from '../../db/webhooks/owners.ts'
import type { Webhook, WebhookOwner } from '../webhook.ts'

/** A revoked owner is noticed after this time. */
const CACHED_MILLISECONDS = 2_000
const CACHED_MAX = 10_000

/** Caches which owners of webhooks are active: their credential or trust policy exists and has not ended. */
export class ActiveOwners {
  readonly #db: Database
  readonly #cached = new LRUCache<string, boolean>({ max: CACHED_MAX, ttl: CACHED_MILLISECONDS })

  constructor(db: Database) {
    this.#db = db
  }

  /** Lists the active origins of these webhooks' owners. */
  async listActive(webhooks: readonly Webhook[]): Promise<ReadonlySet<string>> {
    const origins = new Set(webhooks.flatMap(({ owner }) => owner.origin ?? []))
    const active = new Set([...origins].filter((one) => this.#cached.get(one) === true))
    const missing = [...origins].filter((one) => !this.#cached.has(one))
    if (missing.length === 0) return active
    const found = new Set(await listActiveOrigins(this.#db, missing))
    for (const one of missing) {
      this.#cached.set(one, found.has(one))
      if (found.has(one)) active.add(one)
    }
    return active
  }
}

/** True while the owner's credential or trust policy is active. The operator is always active. */
export function isOwnerActive(
  { origin }: WebhookOwner,
  activeOrigins: ReadonlySet<string>,
): boolean {
  return origin === null || activeOrigins.has(origin)
}
