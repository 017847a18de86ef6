import type { Rights } from '../../db/auth/audit.ts'
import type { Queryable } from '../../db/database.ts'
import {
  releaseUpload,
  renewLease,
  UPLOAD_LEASE_SECONDS,
  type UploadWriter,
} from '../../db/registry/upload-leases.ts'
import { RegistryError, unavailable } from '../../oci/errors.ts'

const RENEWALS_A_LEASE = 3
const RENEW_MILLISECONDS = (UPLOAD_LEASE_SECONDS * 1000) / RENEWALS_A_LEASE
/** A database that restarts is back after a few of these. */
const RELEASE_RETRY_MILLISECONDS = 1000
/** A writer that is alive renews its lease within this time, or it is gone soon. */
const BUSY_RETRY_SECONDS = UPLOAD_LEASE_SECONDS / RENEWALS_A_LEASE

/** The upload that is written, and its writer. */
export type LeaseHolder = {
  readonly id: string
  readonly token: string
  /** Returns the key of this process's lock. */
  process(): number | null
  /** The rights of the writer. */
  readonly rights: Rights
  /** True when no other request can continue the upload: then it is kept also while the client is silent. */
  readonly isSingleRequest: boolean
}

/**
 * Makes one request the only writer of an upload. The lease is renewed until `stop`, while bytes arrive or the store is
 * busy with them. While the client is silent it ends, and another request may take the upload over; a writer whose upload
 * nobody took over goes on.
 */
export class Lease {
  readonly #db: Queryable
  readonly #holder: LeaseHolder
  readonly #timer: NodeJS.Timeout
  #lost = false
  #revoked: RegistryError | undefined
  #heldUntil = endOfLease()
  #renewedAt = performance.now()
  /** Since when the client has sent nothing; undefined while the store is busy. */
  #silentSince: number | undefined

  constructor(db: Queryable, holder: LeaseHolder) {
    this.#db = db
    this.#holder = holder
    this.#timer = setInterval(() => {
      if (!this.#isSilent()) this.#renewNow()
    }, RENEW_MILLISECONDS)
    this.#timer.unref()
  }

  get token(): string {
    return this.#holder.token
  }

  get rights(): Rights {
    return this.#holder.rights
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Yields the chunks while the lease is held. Throws UNAVAILABLE when another request took the upload over. */
  async *guard(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    this.#silentSince = performance.now()
    for await (const chunk of bytes) {
      this.#silentSince = undefined
      // After a silence, or when the process was suspended.
      if (performance.now() - this.#renewedAt > RENEW_MILLISECONDS) this.#renewNow()
      this.assertHeld()
      yield chunk
      this.#silentSince = performance.now()
    }
    this.#silentSince = undefined
  }

  /** Throws UNAVAILABLE when another request took the upload over, and UNAUTHORIZED when the writer's right was revoked. */
  assertHeld(): void {
    if (this.#revoked !== undefined) throw this.#revoked
    if (this.#lost) throw takenOver()
  }

  /** Throws as `assertHeld` does, after it has renewed a lease that may have ended. */
  async confirm(): Promise<void> {
    if (performance.now() > this.#heldUntil) await this.#renew()
    this.assertHeld()
  }

  /** Runs the statement that ends the lease; it returns false when the lease was lost. Throws UNAVAILABLE. */
  async endWith(write: () => Promise<boolean>): Promise<void> {
    if (!(await write())) throw takenOver()
  }

  /**
   * Releases the upload for the next request; it keeps its size. While the database is unreachable, this
   * is repeated in the background until the lease ends anyway.
   */
  async release(): Promise<void> {
    this.stop()
    try {
      await releaseUpload(this.#db, this.#holder.id, this.token)
    } catch {
      this.#releaseLater()
    }
  }

  #releaseLater(): void {
    if (performance.now() > this.#heldUntil) return
    const retry = () =>
      void releaseUpload(this.#db, this.#holder.id, this.token).catch(() => this.#releaseLater())
    setTimeout(retry, RELEASE_RETRY_MILLISECONDS).unref()
  }

  #isSilent(): boolean {
    const since = this.#silentSince
    if (since === undefined || this.#holder.isSingleRequest) return false
    return performance.now() - since > RENEW_MILLISECONDS
  }

  #renewNow(): void {
    this.#renewedAt = performance.now()
    // A database that does not answer may answer the next renewal.
    void this.#renew().catch((error: unknown) => {
      if (isUnauthorized(error)) this.#revoked = error
    })
  }

  async #renew(): Promise<void> {
    const until = endOfLease()
    const { id, token, rights } = this.#holder
    const writer: UploadWriter = { lease: token, process: this.#holder.process() }
    if (await renewLease(this.#db, id, writer, rights)) this.#heldUntil = until
    else this.#lost = true
  }
}

/** True when the writer's credential, policy or token was revoked. */
export function isUnauthorized(error: unknown): error is RegistryError {
  return error instanceof RegistryError && error.code === 'UNAUTHORIZED'
}

/** Another request is writing: clients wait, and continue where it ended. */
export function uploadBusy(): RegistryError {
  return writtenByAnother('another request is writing to this upload: wait')
}

function endOfLease(): number {
  return performance.now() + UPLOAD_LEASE_SECONDS * 1000
}

function takenOver(): RegistryError {
  return writtenByAnother('another request took over this upload')
}

// 503: every common client waits after it and repeats the request. After 416 they begin again, or end.
function writtenByAnother(what: string): RegistryError {
  return unavailable(`${what}, get its status, and continue from there`, {
    retryAfterSeconds: BUSY_RETRY_SECONDS,
    isFault: false,
  })
}
