import { assertName } from '../../auth/credentials.ts'
import type { MasterKey } from '../../auth/master-key.ts'
import { recordChange } from '../../db/auth/audit.ts'
import type { Database, Queryable, Transaction } from '../../db/database.ts'
import { appendEvents } from '../../db/events/outbox.ts'
import { retryDeliveriesNow } from '../../db/webhooks/deliveries.ts'
import { clearWebhookFailures } from '../../db/webhooks/health.ts'
import {
  addWebhook,
  findWebhook,
  incrementWebhookChangeCount,
  listNamedWebhooks,
  listWebhooks,
  removeWebhook,
  renewWebhookIdentity,
  updateWebhook,
  type WebhookColumns,
  type WebhookRow,
} from '../../db/webhooks/webhooks.ts'
import { isCdEventsFormat } from '../../events/cd-event.ts'
import { conflict } from '../../oci/errors.ts'
import type { Glob } from '../../oci/glob.ts'
import { decryptSecrets, encryptSecrets } from '../encrypted-secrets.ts'
import type { WebhookSecrets } from '../webhook.ts'
import {
  assertAudienceAllowed,
  assertBelowLimit,
  assertBodyAllowed,
  assertCanWrite,
  listManagedNames,
  ownerOriginOf,
  requireLockedWebhook,
  requireWebhook,
} from './authorization.ts'
import {
  applySecretsChange,
  assertOneAuthorization,
  assertSecretsRepeated,
  currentSigningSecret,
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
import {
  applyChange,
  assertBodyFits,
  assertFormatFits,
  SETTINGS_DEFAULT,
  type ValidationContext,
} from './validation.ts'
import { webhookView } from './view.ts'

export type WebhooksOptions = ValidationContext & {
  /** Patterns of the audiences that webhooks of other owners than administrators may name. */
  readonly audiences: readonly Glob[]
  readonly db: Database
  readonly masterKey: MasterKey
  /** Runs when an event was committed. */
  onCommitted(): void
}

/**
 * Manages the webhooks of a registry, and records every change in the audit log. A requester that may
 * not manage a webhook gets the same answers as if it did not exist.
 */
export class Webhooks {
  readonly #options: WebhooksOptions
  readonly #db: Database

  constructor(options: WebhooksOptions) {
    this.#options = options
    this.#db = options.db
  }

  /**
   * Creates a webhook. Only this result, and that of a rotation, contains a secret. Throws
   * REQUEST_INVALID, DENIED, and CONFLICT when the name is in use or the limit is reached.
   */
  async create(request: WebhookRequest, requester: Requester): Promise<CreatedWebhook> {
    const { name, authentication } = request
    assertName(name)
    const empty = { ...SETTINGS_DEFAULT, url: request.url, repositories: [] }
    const settings = applyChange(empty, request, this.#options)
    assertCanWrite(requester, settings)
    assertBodyFits(settings)
    assertFormatFits(settings)
    assertBodyAllowed(requester, settings, this.#options)
    const secrets = applySecretsChange(
      newSecrets(request.secret),
      authentication,
      settings.signatures,
    )
    assertOneAuthorization(settings.oidcAudience, secrets)
    assertAudienceAllowed(requester, settings.oidcAudience, this.#options.audiences)
    const state = request.paused ? ('paused' as const) : ('active' as const)
    const columns = { ...settings, state, disabledReason: null, ...ownerColumns(requester) }
    const secretsJwe = await encryptSecrets(this.#options.masterKey, secrets)
    const row = await this.#db.transaction(async (tx) => {
      // First, because its row lock serializes creations, so that the count below is exact.
      await incrementWebhookChangeCount(tx)
      await assertBelowLimit(tx, requester)
      if (!(await addWebhook(tx, name, { ...columns, secretsJwe }))) {
        throw conflict(`there is a webhook named ${name}: remove it first, or choose another name`)
      }
      await recordChange(tx, requester.actor, { action: 'create-webhook', detail: name })
      return readBack(tx, name)
    })
    return { ...webhookView(row, secrets), secret: currentSigningSecret(secrets) }
  }

  /**
   * Lists the webhooks that the requester may manage and whose names sort after `last`, ordered by name. `db` is the
   * connection of the question.
   */
  async list(
    db: Queryable,
    last: string,
    limit: number,
    requester: Requester,
  ): Promise<WebhookView[]> {
    const found =
      requester.grants === null
        ? await listWebhooks(db, last, limit)
        : await listNamedWebhooks(db, await listManagedNames(db, last, limit, requester))
    return Promise.all(found.map((row) => this.view(row)))
  }

  /** Reads a webhook. Throws NOT_FOUND. */
  async read(name: string, requester: Requester): Promise<WebhookView> {
    return this.view(await requireWebhook(this.#db, name, requester))
  }

  /** Describes a webhook that was found for a requester who may manage it. */
  async view(row: WebhookRow): Promise<WebhookView> {
    return webhookView(row, await this.#decrypt(row))
  }

  /**
   * Changes the given settings. A change of anything but `paused` makes the requester the owner. `paused:
   * false` also re-enables a disabled webhook and makes its retries due now. Throws NOT_FOUND,
   * REQUEST_INVALID, DENIED, and CONFLICT.
   */
  async change(name: string, change: WebhookChange, requester: Requester): Promise<WebhookView> {
    return this.#update(name, requester, 'update-webhook', async (row, tx) => {
      const settings = applyChange(row, change, this.#options)
      assertCanWrite(requester, settings)
      assertBodyFits(settings)
      assertFormatFits(settings)
      if (!changesOnlyPaused(change)) assertBodyAllowed(requester, settings, this.#options)
      const secrets = await this.#changedSecrets(row, change, settings.signatures)
      assertOneAuthorization(settings.oidcAudience, secrets)
      assertAudienceAllowed(requester, settings.oidcAudience, this.#options.audiences)
      assertSecretsRepeated(row, settings.url, secrets, change)
      if (settings.url !== row.url) await renewWebhookIdentity(tx, row.id)
      const { paused } = change
      if (paused === false || settings.url !== row.url) {
        await clearWebhookFailures(tx, row.id)
        await retryDeliveriesNow(tx, row.id)
      }
      const state =
        paused === undefined
          ? { state: row.state, disabledReason: row.disabledReason }
          : { state: paused ? ('paused' as const) : ('active' as const), disabledReason: null }
      // Pausing or resuming a webhook does not take it over, unless its owner has ended.
      const keepsOwner = changesOnlyPaused(change) && !row.disabledReason?.startsWith('owner: ')
      return { columns: { ...settings, ...state }, secrets, keepsOwner }
    })
  }

  /** Pauses or resumes a webhook, and changes nothing else. Throws what `change` throws. */
  async setPaused(name: string, paused: boolean, requester: Requester): Promise<void> {
    await this.change(name, { ...NOTHING_CHANGED, paused }, requester)
  }

  /**
   * Replaces the signing secret. Only this result contains the new one. Earlier secrets keep signing for
   * `overlapSeconds`. Throws NOT_FOUND, REQUEST_INVALID, DENIED, and CONFLICT.
   */
  async rotateSecret(
    name: string,
    given: string | undefined,
    overlapSeconds: number | undefined,
    requester: Requester,
  ): Promise<CreatedWebhook> {
    let secret = ''
    const view = await this.#update(name, requester, 'rotate-webhook-secret', async (row) => {
      assertCanWrite(requester, row)
      assertBodyAllowed(requester, row, this.#options)
      const current = await this.#decrypt(row)
      const seconds = overlapSeconds ?? OVERLAP_SECONDS_DEFAULT
      // Secrets of another master key are lost. A rotation replaces them, and the webhook works again.
      const secrets =
        current === undefined
          ? applySecretsChange(newSecrets(given), UNCHANGED, row.signatures)
          : rotateSecrets(current, given, seconds, new Date())
      secret = currentSigningSecret(secrets)
      return { columns: row, secrets }
    })
    return { ...view, secret }
  }

  /** Removes a webhook, with its pending deliveries. Throws NOT_FOUND. */
  async remove(name: string, requester: Requester): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const { id } = await requireLockedWebhook(tx, name, requester)
      await removeWebhook(tx, id)
      await incrementWebhookChangeCount(tx)
      await recordChange(tx, requester.actor, { action: 'remove-webhook', detail: name })
    })
  }

  /**
   * Sends `webhook.ping` to this webhook only, and returns the event's id. Throws NOT_FOUND, and CONFLICT unless the webhook
   * is active and sends events.
   */
  async test(name: string, requester: Requester): Promise<string> {
    const id = await this.#db.transaction(async (tx) => {
      const { id: webhookId, state, body, format } = await requireWebhook(tx, name, requester)
      if (state !== 'active') {
        throw conflict(`${name} is ${state} and receives nothing: set paused to false first`, {
          state,
        })
      }
      if (body !== null) {
        throw conflict(
          `${name} has a body of its own and gets no test, because its receiver would act on it: send an event again instead`,
        )
      }
      if (isCdEventsFormat(format)) {
        throw conflict(`${name} has the format ${format}, in which there is no test`)
      }
      await recordChange(tx, requester.actor, { action: 'test-webhook', detail: name })
      const event = { type: 'webhook.ping', webhook: name } as const
      return (await appendEvents(tx, [{ event, repositoryId: null, webhookId }]))[0]
    })
    if (id === undefined) throw new Error('the ping has no id')
    this.#options.onCommitted()
    return id
  }

  async #update(
    name: string,
    requester: Requester,
    action: string,
    work: (row: WebhookRow, tx: Transaction) => Promise<WebhookUpdate>,
  ): Promise<WebhookView> {
    return this.#db.transaction(async (tx) => {
      const before = await requireLockedWebhook(tx, name, requester)
      const { columns, secrets, keepsOwner = false } = await work(before, tx)
      const { masterKey } = this.#options
      const secretsJwe =
        secrets === undefined ? before.secretsJwe : await encryptSecrets(masterKey, secrets)
      const { ownerName, ownerOrigin, ownerGrants } = before
      const owner = keepsOwner ? { ownerName, ownerOrigin, ownerGrants } : ownerColumns(requester)
      await updateWebhook(tx, before.id, { ...columns, secretsJwe, ...owner })
      await incrementWebhookChangeCount(tx)
      await recordChange(tx, requester.actor, { action, detail: name })
      return webhookView(await readBack(tx, name), secrets)
    })
  }

  /** Returns undefined when the secrets cannot be decrypted and the change does not concern them. */
  async #changedSecrets(
    row: WebhookRow,
    { authentication }: WebhookChange,
    signatures: readonly string[],
  ): Promise<WebhookSecrets | undefined> {
    const current = await this.#decrypt(row)
    if (current !== undefined) return applySecretsChange(current, authentication, signatures)
    const { authorization, webhookSecret, signatures: wanted } = authentication
    if ([authorization, webhookSecret, wanted].every((one) => one === undefined)) return undefined
    throw conflict(
      `the secrets of ${row.name} were encrypted with another master key: rotate its secret first`,
    )
  }

  #decrypt({ secretsJwe }: WebhookRow): Promise<WebhookSecrets | undefined> {
    return decryptSecrets(this.#options.masterKey, secretsJwe)
  }
}

type WebhookUpdate = {
  readonly columns: Omit<WebhookColumns, 'secretsJwe' | `owner${string}`>
  /** Undefined: they stay unchanged. */
  readonly secrets: WebhookSecrets | undefined
  /** Undefined: the requester becomes the owner. */
  readonly keepsOwner?: boolean
}

function changesOnlyPaused({ authentication, paused: _paused, ...others }: WebhookChange): boolean {
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

const NOTHING_CHANGED: WebhookChange = {
  url: undefined,
  repositories: undefined,
  tags: undefined,
  types: undefined,
  format: undefined,
  body: undefined,
  authentication: UNCHANGED,
  headers: undefined,
  description: undefined,
  maxAgeSeconds: undefined,
  coalesceTags: undefined,
  paused: undefined,
}

function ownerColumns({ actor, grants }: Requester) {
  return { ownerName: actor.name, ownerOrigin: ownerOriginOf(actor), ownerGrants: grants }
}

/** Reads a webhook that this transaction has written. */
async function readBack(tx: Transaction, name: string): Promise<WebhookRow> {
  const row = await findWebhook(tx, name)
  if (row === undefined) throw new Error(`webhook ${name} was not written`)
  return row
}
