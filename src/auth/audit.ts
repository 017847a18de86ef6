import {
  type AuditEntry,
  type AuditFilter,
  type AuditRow,
  addAuditEntries,
  listAuditEntries,
} from '../db/auth/audit.ts'
import type { Queryable } from '../db/database.ts'
import type { Caller } from './access.ts'

export type { AuditEntry, AuditFilter, AuditRow }

/** What may be left out of an entry. */
export type NewAuditEntry = Pick<AuditEntry, 'action' | 'decision'> & Partial<AuditEntry>

const WAITING_MAX = 10_000
const WRITTEN_AT_ONCE = 500

/**
 * The record of who did what. Pushes and deletes write theirs in their own transactions; here is the
 * rest. Refusals are many when somebody tries hard, so they are gathered, and those that the database
 * cannot take in time are counted instead.
 */
export class AuditLog {
  readonly #db: Queryable
  readonly #onError: (error: unknown) => void
  #waiting: AuditEntry[] = []
  #lost = 0
  #writing: Promise<void> | undefined

  constructor(db: Queryable, onError: (error: unknown) => void) {
    this.#db = db
    this.#onError = onError
  }

  /** Resolves when it is written: what it tells of may then be acknowledged. */
  async record(enqueue: NewAuditEntry): Promise<void> {
    await addAuditEntries(this.#db, [entryOf(enqueue)])
  }

  /** Is written soon. */
  note(note: NewAuditEntry): void {
    if (this.#waiting.length >= WAITING_MAX) {
      this.#lost += 1
      return
    }
    this.#waiting.push(entryOf(note))
    this.#writing ??= this.#write()
  }

  /** One page, the newest first. */
  list(question: AuditFilter): Promise<AuditRow[]> {
    return listAuditEntries(this.#db, question)
  }

  /** Resolves when what was noted is written, or was tried. */
  async flush(): Promise<void> {
    await this.#writing
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const entries = this.#waiting.splice(0, WRITTEN_AT_ONCE)
        if (this.#lost > 0) {
          const detail = `${this.#lost} refusals were too many to be written`
          entries.push(entryOf({ action: 'authenticate', decision: 'refused', detail }))
          this.#lost = 0
        }
        await addAuditEntries(this.#db, entries).catch((error: unknown) => {
          this.#lost += entries.length
          this.#onError(error)
        })
      }
    } finally {
      this.#writing = undefined
    }
  }
}

/** What a caller is called in an entry. */
export function auditIdentity(caller: Caller): Pick<AuditEntry, 'actor' | 'origin' | 'tokenId'> {
  if (caller.kind === 'anonymous') return { actor: null, origin: null, tokenId: null }
  return {
    actor: caller.actor,
    origin: caller.origin ?? null,
    tokenId: caller.tokenId ?? null,
  }
}

function entryOf(note: NewAuditEntry): AuditEntry {
  return {
    actor: null,
    origin: null,
    tokenId: null,
    address: null,
    requestId: null,
    repository: null,
    tags: null,
    digest: null,
    detail: null,
    ...note,
  }
}
