import type { Queryable } from '../../db/database.ts'
import { releaseUpload, renewLease } from '../../db/registry/uploads.ts'
import { RegistryError } from '../../oci/errors.ts'

/** So long a writer that died keeps others from its upload. */
export const LEASE_SECONDS = 60
const RENEWALS_A_LEASE = 3
/** A database that restarts is back within some of these. */
const RELEASE_AGAIN_MILLISECONDS = 1000

/** One writer's hold on an upload. It is renewed while bytes pass, and a writer that lost it stops. */
export class Lease {
  readonly token: string
  readonly #db: Queryable
  readonly #id: string
  readonly #timer: NodeJS.Timeout
  #lost = false
  #heldUntil = 0

  constructor(db: Queryable, id: string, token: string) {
    this.#db = db
    this.#id = id
    this.token = token
    this.#heldUntil = endOfLease()
    this.#timer = setInterval(
      () => void this.#renew().catch(() => {}),
      (LEASE_SECONDS * 1000) / RENEWALS_A_LEASE,
    )
    this.#timer.unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Passes bytes on for as long as the lease is held. */
  async *guard(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      this.assertHeld()
      yield chunk
    }
  }

  /** Throws RANGE_INVALID when the lease was lost. */
  assertHeld(): void {
    // By the clock, too: a process that was stopped for a while has not heard of it yet.
    if (this.#lost || performance.now() > this.#heldUntil) throw leaseLost()
  }

  /** `write` is the statement that ends the lease; false from it means that it was lost before. */
  async endWith(write: () => Promise<boolean>): Promise<void> {
    if (!(await write())) throw leaseLost()
  }

  /**
   * Leaves the upload where it stood, free for the next request. While the database cannot be reached
   * this goes on in the background, until the lease has run out anyway.
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
    const again = () =>
      void releaseUpload(this.#db, this.#id, this.token).catch(() => this.#releaseLater())
    setTimeout(again, RELEASE_AGAIN_MILLISECONDS).unref()
  }

  async #renew(): Promise<void> {
    const until = endOfLease()
    if (await renewLease(this.#db, this.#id, this.token, LEASE_SECONDS)) this.#heldUntil = until
    else this.#lost = true
  }
}

function endOfLease(): number {
  return performance.now() + LEASE_SECONDS * 1000
}

function leaseLost(): RegistryError {
  return new RegistryError('RANGE_INVALID', undefined, {
    message: 'another request took this upload over; ask for its status and go on from there',
  })
}
