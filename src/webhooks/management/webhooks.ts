import { assertName } from '../../auth/credentials.ts'
import type { MasterKey } from '../../auth/master-key.ts'
import { recordChange } from '../../db/auth/audit.ts'
import type { Database, Queryable, Transaction } from '../../db/database.ts'
import { incrementWebhookChangeCount } from '../../db/endpoints.ts'
import { appendEvents } from '../../db/events/outbox.ts'
import { retryDeliveriesNow } from '../../db/webhooks/deliveries.ts'
import {
  addWebhook,
  clearWebhookFailures,
  countWebhooks,
  findWebhook,
  listWebhooks,
  lockWebhook,
  removeWebhook,
  updateWebhook,
  type WebhookRow,
} from '../../db/webhooks/webhooks.ts'
import { conflict, notFound, type RegistryError } from '../../oci/errors.ts'
import type { WebhookSecrets } from '../webhook.ts'
import { assertCanWrite, canManage, WEBHOOKS_MAX, WEBHOOKS_PER_OWNER_MAX } from './authorization.ts'
import {
  applySecretsChange,
  decryptSecrets,
  encryptSecrets,
  newSecrets,
  OVERLAP_SECONDS_DEFAULT,
  rotateSecrets,
} from './secrets.ts'
import type {
  CreatedWebhook,
  Requester,
  WebhookChange,
  WebhookRequest,
  WebhookView,
} from './types.ts'
import { applyChange, invalid, SETTINGS_DEFAULT, type ValidationContext } from './validation.ts'
import { webhookView } from './view.ts'

export type WebhooksOptions = ValidationContext & {
  readonly db: Database
  readonly masterKey: MasterKey
  /** Called when an event was committed. */
  onCommitted(): void
}

const LISTED_AT_ONCE = 500
const NAME_SHOWN_MAX = 64

/**
 * The webhooks of a registry. Every change is in the audit log. To whoever may not manage a webhook it
 * is as if there were none.
 */
export class Webhooks {
  readonly #options: WebhooksOptions
  readonly #db: Database

  constructor(options: WebhooksOptions) {
    this.#options = options
    this.#db = options.db
  }

  /**
   * Makes one. Its secret is in the answer, and in no other. Throws REQUEST_INVALID, DENIED, and
   * CONFLICT for a name that is in use or when there are too many.
   */
  async create(request: WebhookRequest, manager: Requester): Promise<CreatedWebhook> {
    const { name, authentication } = request
    assertName(name)
    const empty = { ...SETTINGS_DEFAULT, url: request.url, repositories: [] }
    const settings = applyChange(empty, request, this.#options)
    assertCanWrite(manager, settings)
    const made = newSecrets(request.secret)
    const secrets = applySecretsChange(made, authentication, settings.signatures)
    demandOneAuthorization(settings.oidcAudience, secrets)
    const state = request.paused ? ('paused' as const) : ('active' as const)
    const written = { ...settings, state, disabledReason: null, ...ownerOf(manager) }
    const secretsJwe = await encryptSecrets(this.#options.masterKey, secrets)
    const row = await this.#db.transaction(async (tx) => {
      // First, because it lets one after the other: so there are never more than may be.
      await incrementWebhookChangeCount(tx)
      await demandRoom(tx, manager)
      if (!(await addWebhook(tx, name, { ...written, secretsJwe }))) throwNameTaken(name)
      await recordChange(tx, manager.actor, { action: 'create-webhook', detail: name })
      return (await findWebhook(tx, name)) ?? throwNotFound(name)
    })
    return { ...webhookView(row, secrets), secret: presentOf(secrets) }
  }

  /** Those after `last` that the manager may see, in the order of names. */
  async list(last: string, limit: number, manager: Requester): Promise<WebhookView[]> {
    const page = manager.grants === null ? limit : LISTED_AT_ONCE
    const found: WebhookRow[] = []
    let after: string | undefined = last
    // Of WEBHOOKS_MAX, at most: a page is full, or it is the last.
    while (after !== undefined && found.length < limit) {
      const rows: WebhookRow[] = await listWebhooks(this.#db, after, page)
      found.push(...rows.filter((row) => canManage(manager, row)))
      after = rows.length < page ? undefined : rows.at(-1)?.name
    }
    return Promise.all(
      found.slice(0, limit).map(async (row) => webhookView(row, await this.#secretsOf(row))),
    )
  }

  /** The one of that name. Throws NOT_FOUND. */
  async read(name: string, manager: Requester): Promise<WebhookView> {
    const row = await requireWebhook(this.#db, name, manager)
    return webhookView(row, await this.#secretsOf(row))
  }

  /**
   * Changes what is given; whoever changes more than `paused` becomes its owner. One that was disabled comes back by
   * `paused: false`, and what waits for another try is tried at once. Throws NOT_FOUND, REQUEST_INVALID, DENIED, and CONFLICT.
   */
  async change(name: string, change: WebhookChange, manager: Requester): Promise<WebhookView> {
    return this.#rewrite(name, manager, 'update-webhook', async (row, tx) => {
      const settings = applyChange(row, change, this.#options)
      assertCanWrite(manager, settings)
      const secrets = await this.#amended(row, change, settings.signatures)
      demandOneAuthorization(settings.oidcAudience, secrets)
      demandSecretsGoAlong(row.url, settings.url, secrets, change)
      const { paused } = change
      if (paused === false || settings.url !== row.url) {
        await clearWebhookFailures(tx, row.id)
        await retryDeliveriesNow(tx, row.id)
      }
      const state =
        paused === undefined
          ? { state: row.state, disabledReason: row.disabledReason }
          : { state: paused ? ('paused' as const) : ('active' as const), disabledReason: null }
      // Whoever pauses or resumes what is another's does not vouch for it.
      const keepsOwner = isPauseAlone(change) && !row.disabledReason?.startsWith('owner: ')
      return { written: { ...settings, ...state }, secrets, keepsOwner }
    })
  }

  /**
   * Gives it another secret, which is in the answer and in no other; earlier ones sign beside it until
   * `overlapSeconds` are over. Throws NOT_FOUND, REQUEST_INVALID, DENIED, and CONFLICT.
   */
  async rotateSecret(
    name: string,
    given: string | undefined,
    overlapSeconds: number | undefined,
    manager: Requester,
  ): Promise<CreatedWebhook> {
    let secret = ''
    const webhook = await this.#rewrite(name, manager, 'rotate-webhook-secret', async (row) => {
      assertCanWrite(manager, row)
      const current = await this.#secretsOf(row)
      const seconds = overlapSeconds ?? OVERLAP_SECONDS_DEFAULT
      // What nobody can read any more is lost, and this is how the webhook becomes whole again.
      const secrets =
        current === undefined
          ? applySecretsChange(newSecrets(given), UNCHANGED, row.signatures)
          : rotateSecrets(current, given, seconds, new Date())
      secret = presentOf(secrets)
      return { written: row, secrets }
    })
    return { ...webhook, secret }
  }

  /** Takes it away, with what was not delivered. Throws NOT_FOUND. */
  async remove(name: string, manager: Requester): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const { id } = await lockManaged(tx, name, manager)
      await removeWebhook(tx, id)
      await incrementWebhookChangeCount(tx)
      await recordChange(tx, manager.actor, { action: 'remove-webhook', detail: name })
    })
  }

  /**
   * Sends it `webhook.ping`, and nobody else. Returns the event's id. Throws NOT_FOUND, and CONFLICT
   * while nothing is sent to it.
   */
  async test(name: string, manager: Requester): Promise<string> {
    const id = await this.#db.transaction(async (tx) => {
      const { id: webhookId, state } = await requireWebhook(tx, name, manager)
      if (state !== 'active') {
        throw conflict(
          `${name} is ${state}, and nothing is sent to it: set paused to false first`,
          { state },
        )
      }
      await recordChange(tx, manager.actor, { action: 'test-webhook', detail: name })
      const event = { type: 'webhook.ping', webhook: name } as const
      return (await appendEvents(tx, [{ event, repositoryId: null, webhookId }]))[0]
    })
    if (id === undefined) throw new Error('the ping has no id')
    this.#options.onCommitted()
    return id
  }

  async #rewrite(
    name: string,
    manager: Requester,
    action: string,
    work: (row: WebhookRow, tx: Transaction) => Promise<Rewritten>,
  ): Promise<WebhookView> {
    return this.#db.transaction(async (tx) => {
      const before = await lockManaged(tx, name, manager)
      const { written, secrets, keepsOwner = false } = await work(before, tx)
      const { masterKey } = this.#options
      const secretsJwe =
        secrets === undefined ? before.secretsJwe : await encryptSecrets(masterKey, secrets)
      const { ownerName, ownerOrigin, ownerGrants } = before
      const owner = keepsOwner ? { ownerName, ownerOrigin, ownerGrants } : ownerOf(manager)
      await updateWebhook(tx, before.id, { ...written, secretsJwe, ...owner })
      await incrementWebhookChangeCount(tx)
      await recordChange(tx, manager.actor, { action, detail: name })
      const after = (await findWebhook(tx, name)) ?? throwNotFound(name)
      return webhookView(after, secrets)
    })
  }

  /** Undefined when they cannot be read, and nothing was to become of them. */
  async #amended(
    row: WebhookRow,
    { authentication }: WebhookChange,
    signatures: readonly string[],
  ): Promise<WebhookSecrets | undefined> {
    const current = await this.#secretsOf(row)
    if (current !== undefined) return applySecretsChange(current, authentication, signatures)
    const { authorization, webhookSecret, signatures: wanted } = authentication
    if ([authorization, webhookSecret, wanted].every((one) => one === undefined)) return undefined
    throw conflict(
      `the secrets of ${row.name} were encrypted with another master key: rotate its secret first`,
    )
  }

  #secretsOf({ secretsJwe }: WebhookRow): Promise<WebhookSecrets | undefined> {
    return decryptSecrets(this.#options.masterKey, secretsJwe)
  }
}

type Rewritten = {
  readonly written: Omit<Parameters<typeof updateWebhook>[2], 'secretsJwe' | `owner${string}`>
  /** Undefined: they stay as they are. */
  readonly secrets: WebhookSecrets | undefined
  /** Undefined: whoever changes it becomes its owner. */
  readonly keepsOwner?: boolean
}

function isPauseAlone({ authentication, paused: _paused, ...others }: WebhookChange): boolean {
  return [...Object.values(others), ...Object.values(authentication)].every(
    (value) => value === undefined,
  )
}

const UNCHANGED = {
  signatures: undefined,
  authorization: undefined,
  webhookSecret: undefined,
  oidcAudience: undefined,
} as const

/** The one of that name, if the manager may know of it. Throws NOT_FOUND. */
export async function requireWebhook(
  db: Queryable,
  name: string,
  manager: Requester,
): Promise<WebhookRow> {
  // Postgres cannot even be asked for this character.
  const row = name.includes('\0') ? undefined : await findWebhook(db, name)
  return row !== undefined && canManage(manager, row) ? row : throwNotFound(name)
}

async function lockManaged(tx: Transaction, name: string, manager: Requester): Promise<WebhookRow> {
  if (!name.includes('\0')) await lockWebhook(tx, name)
  return requireWebhook(tx, name, manager)
}

async function demandRoom(tx: Transaction, { actor, grants }: Requester): Promise<void> {
  const { all, owned } = await countWebhooks(tx, actor.origin)
  if (all >= WEBHOOKS_MAX) throw limitReached(`a registry has at most ${WEBHOOKS_MAX} webhooks`)
  if (grants !== null && owned >= WEBHOOKS_PER_OWNER_MAX) {
    throw limitReached(
      `a credential or trust policy has at most ${WEBHOOKS_PER_OWNER_MAX} webhooks`,
    )
  }
}

function ownerOf({ actor, grants }: Requester) {
  return { ownerName: actor.name, ownerOrigin: actor.origin, ownerGrants: grants }
}

function demandOneAuthorization(
  oidcAudience: string | null,
  secrets: WebhookSecrets | undefined,
): void {
  if (oidcAudience === null || secrets === undefined || secrets.authorization === null) return
  throw invalid(
    'authentication',
    'has authorization and oidcAudience, and both are the header Authorization: set one of them to null',
  )
}

/** Else whoever may change a webhook could have the secrets sent that another one gave it. */
function demandSecretsGoAlong(
  from: string,
  to: string,
  secrets: WebhookSecrets | undefined,
  { authentication }: WebhookChange,
): void {
  if (secrets === undefined || from === to) return
  for (const name of ['authorization', 'webhookSecret'] as const) {
    if (secrets[name] === null || authentication[name] !== undefined) continue
    throw invalid(
      `authentication.${name}`,
      'must be given again, or null, because the URL changes: behind another one may be somebody else',
    )
  }
}

function presentOf({ signing }: WebhookSecrets): string {
  const [first] = signing
  if (first === undefined) throw new Error('the webhook has no secret')
  return first.secret
}

function throwNotFound(name: string): never {
  const message = `there is no webhook ${name.slice(0, NAME_SHOWN_MAX)}`
  throw notFound(message)
}

function throwNameTaken(name: string): never {
  const message = `there is a webhook named ${name}: remove it first, or choose another name`
  throw conflict(message)
}

function limitReached(rule: string): RegistryError {
  return conflict(`${rule}: remove one first`)
}
