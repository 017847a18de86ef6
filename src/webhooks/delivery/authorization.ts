import { LRUCache } from 'lru-cache'
import { allows } from '../../auth/access.ts'
import type { Database } from '../../db/database.ts'
import { listActiveOrigins } from '../../db/endpoints.ts'
import type { ClaimedDelivery } from '../../db/webhooks/delivery-claims.ts'
import type { Webhook, WebhookOwner } from '../webhook.ts'

/** What does not stand any more is noticed after so long. */
const STANDING_MILLISECONDS = 2_000
const REMEMBERED_MAX = 10_000

/** Which of those that vouch for endpoints still stand. */
export class ActiveOwners {
  readonly #db: Database
  readonly #known = new LRUCache<string, boolean>({
    max: REMEMBERED_MAX,
    ttl: STANDING_MILLISECONDS,
  })

  constructor(db: Database) {
    this.#db = db
  }

  /** Of these endpoints' owners those that stand; each is asked about once in a while. */
  async listActive(endpoints: readonly Webhook[]): Promise<ReadonlySet<string>> {
    const origins = new Set(endpoints.flatMap(({ owner }) => owner.origin ?? []))
    const standing = new Set([...origins].filter((one) => this.#known.get(one) === true))
    const unsure = [...origins].filter((one) => !this.#known.has(one))
    if (unsure.length === 0) return standing
    const found = new Set(await listActiveOrigins(this.#db, unsure))
    for (const one of unsure) {
      this.#known.set(one, found.has(one))
      if (found.has(one)) standing.add(one)
    }
    return standing
  }
}

/** True while what an endpoint was made with holds; the operator's always does. */
export function isOwnerActive({ origin }: WebhookOwner, standing: ReadonlySet<string>): boolean {
  return origin === null || standing.has(origin)
}

/**
 * True when whoever made the endpoint, or asks about it, could pull what the event is about, as it is now. What is about
 * other endpoints is for administrators.
 */
export function canReceive(
  { grants }: Pick<WebhookOwner, 'grants'>,
  { type, repository, visibility }: Pick<ClaimedDelivery, 'type' | 'repository' | 'visibility'>,
): boolean {
  if (grants === null || type === 'webhook.ping' || visibility === 'public') return true
  if (repository === null) return false
  const holder = { kind: 'holder', actor: '', origin: undefined, tokenId: undefined } as const
  const caller = { ...holder, scheme: 'basic', grants, expiredAt: undefined } as const
  return allows(caller, 'pull', repository)
}
