import type { Action, Grant } from '../../auth/access.ts'
import type { Queryable, Transaction } from '../../db/database.ts'
import {
  countWebhooks,
  findWebhook,
  listWebhookScopes,
  lockWebhook,
  type WebhookRow,
  type WebhookScope,
  type WebhookSettings,
} from '../../db/webhooks/webhooks.ts'
import { isAboutRegistry } from '../../events/event.ts'
import { conflict, denied, notFound } from '../../oci/errors.ts'
import { coversGlob, type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import type { Requester } from './types.ts'
import { invalidField, type ValidationContext } from './validation.ts'

/** Webhooks that one credential or trust policy may own. Administrators share the limit of the registry. */
export const WEBHOOKS_PER_OWNER_MAX = 100
/** Webhooks of a registry: each event is matched against all of them. */
export const WEBHOOKS_MAX = 10_000
const NAME_SHOWN_MAX = 64
const LISTED_AT_ONCE = 500

type Scope = Pick<WebhookSettings, 'repositories' | 'types'>

/**
 * True when the requester may see, change, test and remove such a webhook: an administrator, or a
 * holder of `admin` on all of its repositories. Only administrators manage webhooks that receive events
 * about the registry.
 */
export function canManage({ grants }: Requester, { repositories, types }: Scope): boolean {
  if (grants === null) return true
  if (types.some(isAboutRegistry)) return false
  return repositories.every((glob) => isCovered(grants, 'admin', glob))
}

/** True when the requester may also change such a webhook, as `assertCanWrite` checks. */
export function canWrite(requester: Requester, scope: Scope): boolean {
  const { grants } = requester
  if (grants === null) return true
  return (
    canManage(requester, scope) && scope.repositories.every((one) => isCovered(grants, 'pull', one))
  )
}

/**
 * Throws DENIED unless the requester may own such a webhook: it needs `admin`, and `pull` too, because
 * events of a private repository are sent only to owners that may pull it.
 */
export function assertCanWrite({ grants }: Requester, { repositories, types }: Scope): void {
  if (grants === null) return
  const type = types.find(isAboutRegistry)
  if (type !== undefined) {
    throw denied(`only administrators may receive ${type}`, { field: 'types', value: type })
  }
  for (const action of ['admin', 'pull'] as const) {
    const glob = repositories.find((one) => !isCovered(grants, action, one))
    if (glob === undefined) continue
    throw denied(
      `this credential may not ${action} all of ${glob}: a webhook needs admin and pull on all of its repositories`,
      { field: 'repositories', value: glob },
    )
  }
}

/**
 * Throws DENIED unless the requester is an administrator or the audience is listed: the registry vouches for the webhook
 * to any server that trusts its tokens.
 */
export function assertAudienceAllowed(
  { grants }: Requester,
  audience: string | null,
  audiences: readonly Glob[],
): void {
  if (grants === null || audience === null || matchesAnyGlob(audiences, audience)) return
  throw denied(
    'this audience is not listed: the operator adds it to ROOKERY_WEBHOOK_AUDIENCES, or an administrator makes the webhook',
    { field: 'authentication.oidcAudience', value: audience },
  )
}

/**
 * Throws REQUEST_INVALID for a template of another requester than an administrator when the URL is in an internal network:
 * servers there may obey any request. A name is resolved when events are sent, by the same rule.
 */
export function assertBodyAllowed(
  { grants }: Requester,
  { body, url }: Pick<WebhookSettings, 'body' | 'url'>,
  { publicClient }: Pick<ValidationContext, 'publicClient'>,
): void {
  if (grants === null || body === null) return
  try {
    publicClient.assertUrlAllowed(url)
  } catch (error) {
    if (!(error instanceof OutgoingRefusedError)) throw error
    throw invalidField(
      'body',
      'is only for public addresses: an administrator makes the webhook for a server in an internal network',
      error,
    )
  }
}

function isCovered(grants: readonly Grant[], action: Action, glob: Glob): boolean {
  return grants.some(
    ({ actions, repositories }) =>
      actions.includes(action) && repositories.some((one) => coversGlob(one, glob)),
  )
}

/** Lists the names of webhooks after `last` that the requester may manage, in order, at most `limit`. */
export async function listManagedNames(
  db: Queryable,
  last: string,
  limit: number,
  requester: Requester,
): Promise<string[]> {
  const found: string[] = []
  let after: string | undefined = last
  // Ends after WEBHOOKS_MAX rows: a page that is not full is the last.
  while (after !== undefined && found.length < limit) {
    const scopes: WebhookScope[] = await listWebhookScopes(db, after, LISTED_AT_ONCE)
    for (const scope of scopes) if (canManage(requester, scope)) found.push(scope.name)
    after = scopes.length < LISTED_AT_ONCE ? undefined : scopes.at(-1)?.name
  }
  return found.slice(0, limit)
}

/** Finds a webhook that the requester may manage. Throws NOT_FOUND. */
export async function requireWebhook(
  db: Queryable,
  name: string,
  requester: Requester,
): Promise<WebhookRow> {
  // Postgres rejects a parameter with this character.
  const row = name.includes('\0') ? undefined : await findWebhook(db, name)
  if (row !== undefined && canManage(requester, row)) return row
  throw notFound(`there is no webhook ${name.slice(0, NAME_SHOWN_MAX)}`)
}

/** Finds a webhook that the requester may manage, and locks it until the transaction ends. Throws NOT_FOUND. */
export async function requireLockedWebhook(
  tx: Transaction,
  name: string,
  requester: Requester,
): Promise<WebhookRow> {
  if (!name.includes('\0')) await lockWebhook(tx, name)
  return requireWebhook(tx, name, requester)
}

/** Throws CONFLICT when the registry, or the requester, has the maximum number of webhooks. */
export async function assertBelowLimit(
  tx: Transaction,
  { actor, grants }: Requester,
): Promise<void> {
  const { all, owned } = await countWebhooks(tx, ownerOriginOf(actor))
  if (all >= WEBHOOKS_MAX) {
    throw conflict(`a registry has at most ${WEBHOOKS_MAX} webhooks: remove one first`)
  }
  if (grants !== null && owned >= WEBHOOKS_PER_OWNER_MAX) {
    throw conflict(
      `a credential or trust policy has at most ${WEBHOOKS_PER_OWNER_MAX} webhooks: remove one first`,
    )
  }
}

/** Returns the source of a requester's rights. A token that the operator issued has none, and is the source itself. */
export function ownerOriginOf({ origin, tokenId }: Requester['actor']): string | null {
  return origin ?? (tokenId === null ? null : `token:${tokenId}`)
}
