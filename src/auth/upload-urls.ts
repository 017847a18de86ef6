import { type Actor, recordChange } from '../db/auth/audit.ts'
import {
  addUploadUrl,
  countUploadUrlAttempt,
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

/** A request for a one-time upload URL: it permits one push of one tag. */
export type UploadUrlRequest = {
  readonly repository: Repository
  readonly tag: Tag
  /** Lifetime. Undefined: 15 minutes. */
  readonly seconds: number | undefined
  /** The networks that restrict the actor; they restrict the URL, too. */
  readonly networks?: readonly string[] | undefined
}

export type CreatedUploadUrl = { readonly url: string; readonly expiresAt: Date }

export const UPLOAD_URL_SECONDS_MAX = 3600
const UPLOAD_URL_SECONDS_DEFAULT = 900
/** Pushes that one URL accepts until one succeeds. A client that retries needs a few. */
export const UPLOAD_URL_ATTEMPTS_MAX = 20

/**
 * Creates a URL below `base` that accepts one file or image, once, from anybody who has it. The caller
 * has checked that the actor may push the tag. Throws REQUEST_INVALID.
 */
export async function createUploadUrl(
  db: Database,
  { repository, tag, seconds = UPLOAD_URL_SECONDS_DEFAULT, networks }: UploadUrlRequest,
  actor: Actor,
  base: string,
): Promise<CreatedUploadUrl> {
  if (!(seconds >= 1 && seconds <= UPLOAD_URL_SECONDS_MAX)) {
    throw badRequest(`an upload URL lives for 1 to ${UPLOAD_URL_SECONDS_MAX} seconds`)
  }
  const secret = generateSecret('uploadUrl')
  const { name, origin, tokenId, keyId } = actor
  const expiresAt = await db.transaction(async (tx) => {
    const row = { repository, tag, actor: name, origin, tokenId, keyId, networks: networks ?? null }
    const added = await addUploadUrl(tx, row, hashSecret(secret), seconds)
    const detail = `${auditName(added)}, until ${timeText(added.expiresAt)}`
    await recordChange(tx, actor, { action: 'create-upload-url', repository, tags: [tag], detail })
    return added.expiresAt
  })
  return { url: `${base}/upload/${secret}`, expiresAt }
}

/** A usable upload URL: what its holder may push. */
export type UploadUrl = Pick<UploadUrlRow, 'repository' | 'tag'> & {
  /** The creator of the URL, who is recorded as the pusher. */
  readonly actor: Actor
  /** Marks the URL used in the transaction of the push. Throws GONE when another push was faster. */
  markUsed(tx: Transaction, digest: Digest): Promise<void>
}

export type UploadUrlsOptions = {
  readonly db: Database
  readonly authenticator: Authenticator
  readonly audit: AuditLog
}

/** One-time upload URLs, at which a push needs no credential. Refusals are in the audit log. */
export class UploadUrls {
  readonly #options: UploadUrlsOptions

  constructor(options: UploadUrlsOptions) {
    this.#options = options
  }

  /** Calls `createUploadUrl`. */
  create(request: UploadUrlRequest, actor: Actor, base: string): Promise<CreatedUploadUrl> {
    return createUploadUrl(this.#options.db, request, actor, base)
  }

  /**
   * Runs `push` with the upload URL of this secret. A push that fails leaves the URL usable, up to
   * `UPLOAD_URL_ATTEMPTS_MAX` times. Throws
   * NOT_FOUND for an unknown secret, GONE for a used, expired or revoked URL, DENIED outside the URL's
   * networks, and TOOMANYREQUESTS for an address that guesses.
   */
  async open<T>(
    secret: string,
    request: { readonly requestId: string; readonly address: string },
    push: (uploadUrl: UploadUrl) => Promise<T>,
  ): Promise<T> {
    let found: UploadUrlRow | undefined
    try {
      const row = await this.#require(secret, request.address)
      found = row
      assertUsable(row)
      assertInNetworks(row, request.address)
      if (!(await countUploadUrlAttempt(this.#options.db, row.id, UPLOAD_URL_ATTEMPTS_MAX))) {
        throw uploadUrlGone(`was attempted ${UPLOAD_URL_ATTEMPTS_MAX} times: request another one`)
      }
      const { origin, tokenId, keyId } = row
      const actor = { name: row.actor, origin, tokenId, keyId, ...request }
      return await push({
        repository: row.repository,
        tag: row.tag,
        actor,
        markUsed: (tx, digest) => markUsed(tx, row, secret, actor, digest),
      })
    } catch (cause) {
      const error = isRevoked(cause) ? uploadUrlGone(REVOKED) : cause
      if (error instanceof RegistryError && AUDITED_REFUSALS.has(error.code)) {
        this.#options.audit.enqueue({ ...refusalEntry(found, error), ...request })
      }
      throw error
    }
  }

  async #require(secret: string, address: string): Promise<UploadUrlRow> {
    const { authenticator, db } = this.#options
    try {
      return await authenticator.findBySecret('upload URL', secret, address, () =>
        isSecretLike(secret, 'uploadUrl') ? findUploadUrl(db, hashSecret(secret)) : undefined,
      )
    } catch (cause) {
      if (!(cause instanceof RegistryError) || cause.code !== 'UNAUTHORIZED') throw cause
      // NOT_FOUND instead of a challenge: no credential would make the URL valid.
      throw notFound('there is no such upload URL', { cause })
    }
  }
}

const AUDITED_REFUSALS: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'GONE', 'DENIED'])

function refusalEntry(row: UploadUrlRow | undefined, { message }: RegistryError) {
  const about =
    row === undefined
      ? { detail: message }
      : {
          actor: row.actor,
          origin: row.origin,
          repository: row.repository,
          tags: [row.tag],
          detail: `${auditName(row)}: ${message}`,
        }
  return { action: 'use-upload-url', decision: 'refused', ...about } as const
}

async function markUsed(
  tx: Transaction,
  row: UploadUrlRow,
  secret: string,
  actor: Actor,
  digest: Digest,
): Promise<void> {
  if (!(await markUploadUrlUsed(tx, row.id, digest))) {
    const now = await findUploadUrl(tx, hashSecret(secret))
    if (now !== undefined) assertUsable(now)
    throw uploadUrlGone('is void: its repository was deleted')
  }
  const { repository, tag } = row
  const detail = auditName(row)
  await recordChange(tx, actor, {
    action: 'use-upload-url',
    repository,
    tags: [tag],
    digest,
    detail,
  })
}

const REVOKED = 'is void: the credential or token that created it was revoked'

/** True when the creator of the URL was revoked during the push. */
function isRevoked(error: unknown): boolean {
  return error instanceof RegistryError && error.code === 'UNAUTHORIZED'
}

function assertUsable({ usedAt, isRevoked, isExpired, expiresAt }: UploadUrlRow): void {
  if (usedAt !== null) throw uploadUrlGone(`was used at ${timeText(usedAt)}`)
  if (isRevoked) throw uploadUrlGone(REVOKED)
  if (isExpired) throw uploadUrlGone(`expired at ${timeText(expiresAt)}`)
}

/** An upload URL is restricted to the networks of its creator. */
function assertInNetworks({ networks }: UploadUrlRow, address: string): void {
  if (networks === null || parseNetworks(networks)?.has(address)) return
  throw denied(`this upload URL may not be used from ${address}`)
}

function uploadUrlGone(reason: string): RegistryError {
  return new RegistryError('GONE', undefined, { message: `this upload URL ${reason}` })
}

/** The name of an upload URL in the audit log, from its creation to its use. */
function auditName({ id }: { id: number }): string {
  return `upload URL ${id}`
}

function timeText(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`
}
