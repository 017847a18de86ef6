import type { Queryable } from '../db/database.ts'
import { renewLease } from '../db/uploads.ts'
import { OciError } from '../oci/errors.ts'

/** So long a writer that died keeps others from its upload. */
export const LEASE_SECONDS = 60
const RENEWALS_A_LEASE = 3

/** One writer's hold on an upload. It is renewed while bytes pass, and a writer that lost it stops. */
export class Lease {
  readonly token: string
  readonly #db: Queryable
  readonly #id: string
  readonly #timer: NodeJS.Timeout
  #lost = false

  constructor(db: Queryable, id: string, token: string) {
    this.#db = db
    this.#id = id
    this.token = token
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
      if (this.#lost) throw lost()
      yield chunk
    }
  }

  /** Throws RANGE_INVALID when the lease was lost. */
  hold(): void {
    if (this.#lost) throw lost()
  }

  /** `write` is the statement that ends the lease; false from it means that it was lost before. */
  async giveBack(write: () => Promise<boolean>): Promise<void> {
    if (!(await write())) throw lost()
  }

  async #renew(): Promise<void> {
    if (!(await renewLease(this.#db, this.#id, this.token, LEASE_SECONDS))) this.#lost = true
  }
}

function lost(): OciError {
  return new OciError('RANGE_INVALID', undefined, {
    message: 'another request took this upload over; ask for its status and go on from there',
  })
}
