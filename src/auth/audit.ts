import {
  type Actor,
  type AuditEntry,
  type AuditFilter,
  type AuditRow,
  addAuditEntries,
  listAuditEntries,
} from '../db/auth/audit.ts'
import type { Queryable } from '../db/database.ts'
import type { Caller } from './access.ts'

export type { Actor, AuditEntry, AuditFilter, AuditRow }

/** A new entry. Fields that are left out are null. */
export type NewAuditEntry = Pick<AuditEntry, 'action' | 'decision'> & Partial<AuditEntry>

const QUEUED_MAX = 10_000
const WRITTEN_AT_ONCE = 500

/**
 * The audit log. Pushes and deletes write their entries in their own transactions; this class writes
 * the others. An attack causes many refusals, so they are queued and written in batches, and those
 * that the database does not accept in time are counted instead.
 */
export class AuditLog {
  readonly #db: Queryable
  readonly #onError: (error: unknown) => void
  #queue: AuditEntry[] = []
  #lost = 0
  #writing: Promise<void> | undefined

  constructor(db: Queryable, onError: (error: unknown) => void) {
    this.#db = db
    this.#onError = onError
  }

  /** Writes an entry before it resolves, so that the audited action may then be acknowledged. */
  async record(entry: NewAuditEntry): Promise<void> {
    await addAuditEntries(this.#db, [completeEntry(entry)])
  }

  /** Queues an entry, which is written soon. */
  enqueue(entry: NewAuditEntry): void {
    if (this.#queue.length >= QUEUED_MAX) {
      this.#lost += 1
      return
    }
    this.#queue.push(completeEntry(entry))
    this.#writing ??= this.#write()
  }

  /** Lists one page of entries, newest first. */
  list(filter: AuditFilter): Promise<AuditRow[]> {
    return listAuditEntries(this.#db, filter)
  }

  /** Resolves when each queued entry was written or has failed. */
  async flush(): Promise<void> {
    await this.#writing
  }

  async #write(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const entries = this.#queue.splice(0, WRITTEN_AT_ONCE)
        if (this.#lost > 0) {
          const detail = `${this.#lost} refusals were not written: there were too many`
          entries.push(completeEntry({ action: 'authenticate', decision: 'refused', detail }))
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

/** Returns the fields of an entry that identify the caller. */
export function auditIdentity(caller: Caller): Pick<AuditEntry, 'actor' | 'origin' | 'tokenId'> {
  if (caller.kind === 'anonymous') return { actor: null, origin: null, tokenId: null }
  return {
    actor: caller.actor,
    origin: caller.origin ?? null,
    tokenId: caller.tokenId ?? null,
  }
}

function completeEntry(entry: NewAuditEntry): AuditEntry {
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
    ...entry,
  }
}
