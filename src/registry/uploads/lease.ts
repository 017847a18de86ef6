import type { Rights } from '../../db/auth/audit.ts'
import type { Queryable } from '../../db/database.ts'
import { releaseUpload, renewLease } from '../../db/registry/uploads.ts'
import { RegistryError } from '../../oci/errors.ts'

/** Time for which a writer that died blocks its upload. */
export const LEASE_SECONDS = 60
const RENEWALS_A_LEASE = 3
/** A database that restarts is back after a few of these. */
const RELEASE_RETRY_MILLISECONDS = 1000

/** Makes one request the only writer of an upload. A timer renews the lease until `stop`; a writer that lost it fails. */
export class Lease {
  readonly token: string
  readonly #db: Queryable
  readonly #id: string
  readonly #timer: NodeJS.Timeout
  /** The rights of the writer. */
  readonly rights: Rights
  #lost = false
  #revoked: RegistryError | undefined
  #heldUntil = 0

  constructor(db: Queryable, id: string, token: string, rights: Rights) {
    this.#db = db
    this.#id = id
    this.token = token
    this.rights = rights
    this.#heldUntil = endOfLease()
    this.#timer = setInterval(
      () => void this.#renew().catch((error: unknown) => this.#onRenewalFailed(error)),
      (LEASE_SECONDS * 1000) / RENEWALS_A_LEASE,
    )
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Yields the chunks while the lease is held. Throws RANGE_INVALID when it was lost. */
  async *guard(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      this.assertHeld()
      yield chunk
    }
  }

  /** Throws RANGE_INVALID when the lease was lost, and UNAUTHORIZED when the writer's right was revoked. */
  assertHeld(): void {
    if (this.#revoked !== undefined) throw this.#revoked
    // The clock counts, too: a process that was suspended has not yet tried to renew.
    if (this.#lost || performance.now() > this.#heldUntil) throw leaseLost()
  }

  /** Runs the statement that ends the lease; it returns false when the lease was lost. Throws RANGE_INVALID. */
  async endWith(write: () => Promise<boolean>): Promise<void> {
    if (!(await write())) throw leaseLost()
  }

  /**
   * Releases the upload for the next request; it keeps its size. While the database is unreachable, this
   * is repeated in the background until the lease expires anyway.
   */
  async release(): Promise<void> {
    this.stop()
    try {
      await releaseUpload(this.#db, this.#id, this.token)
    } catch {
      this.#releaseLater()
    }
  }

  #releaseLater(): void {
    if (performance.now() > this.#heldUntil) return
    const retry = () =>
      void releaseUpload(this.#db, this.#id, this.token).catch(() => this.#releaseLater())
    setTimeout(retry, RELEASE_RETRY_MILLISECONDS).unref()
  }

  async #renew(): Promise<void> {
    const until = endOfLease()
    const { token, rights } = this
    if (await renewLease(this.#db, this.#id, token, LEASE_SECONDS, rights)) {
      this.#heldUntil = until
    } else this.#lost = true
  }

  /** A database that does not answer may answer the next renewal. */
  #onRenewalFailed(error: unknown): void {
    if (isUnauthorized(error)) this.#revoked = error
  }
}

/** True when the writer's credential, policy or token was revoked. */
export function isUnauthorized(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.code === 'UNAUTHORIZED'
}

function endOfLease(): number {
  return performance.now() + LEASE_SECONDS * 1000
}

function leaseLost(): RegistryError {
  return new RegistryError('RANGE_INVALID', undefined, {
    message: 'another request took over this upload; get its status and continue from there',
  })
}
