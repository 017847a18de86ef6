import { type Actor, recordChange } from '../db/auth/audit.ts'
import {
  addUploadUrl,
  findUploadUrl,
  markUploadUrlUsed,
  type UploadUrlRow,
} from '../db/auth/upload-urls.ts'
import type { Database, Transaction } from '../db/database.ts'
import { parseNetworks } from '../networks/networks.ts'
import type { Digest } from '../oci/digest.ts'
import { badRequest, denied, type ErrorCode, notFound, RegistryError } from '../oci/errors.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { AuditLog } from './audit.ts'
import type { Authenticator } from './authenticator.ts'
import { generateSecret, hashSecret, isSecretLike } from './secrets.ts'

/** What an upload address is asked to be: good for one push of one tag. */
export type UploadUrlRequest = {
  readonly repository: Repository
  readonly tag: Tag
  /** Undefined: a quarter of an hour. */
  readonly seconds: number | undefined
  /** The networks to which the actor is bound, and with it what it makes. */
  readonly networks?: readonly string[] | undefined
}

export type CreatedUploadUrl = { readonly url: string; readonly expiresAt: Date }

export const UPLOAD_URL_SECONDS_MAX = 3600
const UPLOAD_URL_SECONDS_DEFAULT = 900

/**
 * Makes an address to which one file may be sent once, by whoever has it, below `base`. Whether the
 * actor may push that tag was decided before. Throws REQUEST_INVALID.
 */
export async function createUploadUrl(
  db: Database,
  { repository, tag, seconds = UPLOAD_URL_SECONDS_DEFAULT, networks }: UploadUrlRequest,
  actor: Actor,
  base: string,
): Promise<CreatedUploadUrl> {
  if (!(seconds >= 1 && seconds <= UPLOAD_URL_SECONDS_MAX)) {
    throw badRequest(`an upload address lives for 1 to ${UPLOAD_URL_SECONDS_MAX} seconds`)
  }
  const secret = generateSecret('drop')
  const { name, origin, tokenId } = actor
  const expiresAt = await db.transaction(async (tx) => {
    const bound = networks ?? null
    const drop = { repository, tag, actor: name, origin, tokenId, networks: bound }
    const added = await addUploadUrl(tx, drop, hashSecret(secret), seconds)
    const detail = `${nameOf(added)}, until ${timeText(added.expiresAt)}`
    await recordChange(tx, actor, { action: 'create-drop', repository, tags: [tag], detail })
    return added.expiresAt
  })
  return { url: `${base}/drop/${secret}`, expiresAt }
}

/** What an address lets its holder do. */
export type UploadUrl = Pick<UploadUrlRow, 'repository' | 'tag'> & {
  /** Who is recorded as having pushed: the one who made the address. */
  readonly actor: Actor
  /** Uses the address up, with the push itself. Throws GONE when somebody was faster. */
  markUsed(tx: Transaction, digest: Digest): Promise<void>
}

export type UploadUrlsOptions = {
  readonly db: Database
  readonly authenticator: Authenticator
  readonly audit: AuditLog
}

/** Addresses at which a push needs no credential. Refusals are in the audit log. */
export class UploadUrls {
  readonly #options: UploadUrlsOptions

  constructor(options: UploadUrlsOptions) {
    this.#options = options
  }

  /** See `createDrop`. */
  create(request: UploadUrlRequest, actor: Actor, base: string): Promise<CreatedUploadUrl> {
    return createUploadUrl(this.#options.db, request, actor, base)
  }

  /**
   * Runs `push` for whoever came to the address. What does not succeed leaves it as it was. Throws
   * NOT_FOUND for what was never given out, GONE for what is used, expired or revoked, DENIED, and
   * TOOMANYREQUESTS for an address that guesses.
   */
  async open<T>(
    secret: string,
    visit: { readonly requestId: string; readonly address: string },
    push: (drop: UploadUrl) => Promise<T>,
  ): Promise<T> {
    let found: UploadUrlRow | undefined
    try {
      const drop = await this.#find(secret, visit.address)
      found = drop
      demandUsable(drop)
      demandWithin(drop, visit.address)
      const actor = { name: drop.actor, origin: drop.origin, tokenId: null, ...visit }
      return await push({
        repository: drop.repository,
        tag: drop.tag,
        actor,
        markUsed: (tx, digest) => use(tx, drop, secret, actor, digest),
      })
    } catch (error) {
      if (error instanceof RegistryError && REFUSALS.has(error.code)) {
        this.#options.audit.note({ ...refusalOf(found, error), ...visit })
      }
      throw error
    }
  }

  async #find(secret: string, address: string): Promise<UploadUrlRow> {
    const { authenticator, db } = this.#options
    try {
      return await authenticator.throttled(address, () =>
        isSecretLike(secret, 'drop') ? findUploadUrl(db, hashSecret(secret)) : undefined,
      )
    } catch (cause) {
      if (!(cause instanceof RegistryError) || cause.code !== 'UNAUTHORIZED') throw cause
      // No credential would help, so no client is asked for one.
      const message = 'there is no such upload address'
      throw notFound(message, { cause })
    }
  }
}

const REFUSALS: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'GONE', 'DENIED'])

function refusalOf(drop: UploadUrlRow | undefined, { message }: RegistryError) {
  const about =
    drop === undefined
      ? { detail: message }
      : {
          actor: drop.actor,
          origin: drop.origin,
          repository: drop.repository,
          tags: [drop.tag],
          detail: `${nameOf(drop)}: ${message}`,
        }
  return { action: 'use-drop', decision: 'refused', ...about } as const
}

async function use(
  tx: Transaction,
  drop: UploadUrlRow,
  secret: string,
  actor: Actor,
  digest: Digest,
): Promise<void> {
  if (!(await markUploadUrlUsed(tx, drop.id, digest))) {
    const now = await findUploadUrl(tx, hashSecret(secret))
    if (now !== undefined) demandUsable(now)
    throw gone(`expired at ${timeText(drop.expiresAt)}`)
  }
  const { repository, tag } = drop
  const detail = nameOf(drop)
  await recordChange(tx, actor, { action: 'use-drop', repository, tags: [tag], digest, detail })
}

function demandUsable({ usedAt, isRevoked, isExpired, expiresAt }: UploadUrlRow): void {
  if (usedAt !== null) throw gone(`was used already, at ${timeText(usedAt)}`)
  if (isRevoked) throw gone('is void: what made it was revoked')
  if (isExpired) throw gone(`expired at ${timeText(expiresAt)}`)
}

/** What somebody makes is bound to the networks that they are bound to. */
function demandWithin({ networks }: UploadUrlRow, address: string): void {
  if (networks === null || parseNetworks(networks)?.has(address)) return
  throw denied(`this upload address may not be used from ${address}`)
}

function gone(what: string): RegistryError {
  return new RegistryError('GONE', undefined, { message: `this upload address ${what}` })
}

/** As the audit log names it, from its creation to its use. */
function nameOf({ id }: { id: number }): string {
  return `drop ${id}`
}

function timeText(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`
}
