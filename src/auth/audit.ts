import {
  type Actor,
  type AuditEntry,
  type AuditFilter,
  type AuditPage,
  type AuditRow,
  addAllowedEntry,
  addAuditEntries,
  type EntryFilter,
  listAuditEntries,
} from '../db/auth/audit.ts'
import {
  type AuditExportFilter,
  type AuditExportPage,
  listAuditEntriesAfter,
} from '../db/auth/audit-export.ts'
import type { Queryable } from '../db/database.ts'
import type { Caller } from './access.ts'

export type { Actor, AuditEntry, AuditFilter, AuditPage, AuditRow, EntryFilter }

/** A new entry. Fields that are left out are null. */
export type NewAuditEntry = Pick<AuditEntry, 'action' | 'decision'> & Partial<AuditEntry>

const QUEUED_MAX = 10_000
/** Equal refusals within this time are one entry, and a second one with their count. */
const REPEATS_MILLISECONDS = 60_000
/** Different refusals of one address within that time; the others are only counted. */
const REFUSALS_OF_ADDRESS_MAX = 100
const COUNTED_MAX = 10_000
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
  /** Counts of the present window, by refusal and by address. */
  #repeats = new Map<string, { readonly entry: NewAuditEntry; count: number }>()
  #ofAddress = new Map<string, number>()
  #window: NodeJS.Timeout | undefined

  constructor(db: Queryable, onError: (error: unknown) => void) {
    this.#db = db
    this.#onError = onError
  }

  /**
   * Writes an entry before it resolves, so that the audited action may then be acknowledged. Throws UNAUTHORIZED
   * when the right of its actor, or the key `keyId` that signed its token, was revoked.
   */
  async record(entry: NewAuditEntry, keyId: string | undefined): Promise<void> {
    await addAllowedEntry(this.#db, completeEntry(entry), keyId ?? null)
  }

  /** Queues a refusal, which is written soon. A caller that repeats it causes one more entry each minute. */
  enqueue(entry: NewAuditEntry): void {
    this.#window ??= setTimeout(() => this.#endWindow(), REPEATS_MILLISECONDS).unref()
    const address = entry.address ?? ''
    const different = this.#ofAddress.get(address) ?? 0
    const isOver = different >= REFUSALS_OF_ADDRESS_MAX
    const key = isOver ? address : keyOf(entry)
    const repeated = this.#repeats.get(key)
    if (repeated !== undefined) {
      repeated.count += 1
      return
    }
    if (this.#repeats.size >= COUNTED_MAX) {
      this.#lost += 1
      return
    }
    this.#ofAddress.set(address, different + 1)
    this.#repeats.set(key, { entry: isOver ? othersOf(entry) : entry, count: isOver ? 1 : 0 })
    if (!isOver) this.#push(entry)
  }

  /** Queues the counts of the window. */
  #endWindow(): void {
    this.#window = undefined
    const repeats = [...this.#repeats.values()]
    this.#repeats = new Map()
    this.#ofAddress = new Map()
    for (const { entry, count } of repeats) {
      if (count === 0) continue
      const detail = `${entry.detail ?? entry.action} (${count} more times within a minute)`
      this.#push({ ...entry, detail })
    }
  }

  #push(entry: NewAuditEntry): void {
    if (this.#queue.length >= QUEUED_MAX) {
      this.#lost += 1
      return
    }
    this.#queue.push(completeEntry(entry))
    this.#writing ??= this.#write()
  }

  /** Lists one page of entries, newest first. */
  list(filter: AuditFilter, db: Queryable = this.#db): Promise<AuditPage> {
    return listAuditEntries(db, filter)
  }

  /** Lists one page of entries, oldest first; none is added before its end later. */
  listAfter(filter: AuditExportFilter, db: Queryable = this.#db): Promise<AuditExportPage> {
    return listAuditEntriesAfter(db, filter)
  }

  /** Resolves when each queued entry, and each count so far, was written or has failed. */
  async flush(): Promise<void> {
    clearTimeout(this.#window)
    this.#endWindow()
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

/** Equal refusals have the same key: only their time and request id differ. */
function keyOf({ requestId: _, ...entry }: NewAuditEntry): string {
  return JSON.stringify(entry)
}

/** Makes the entry that represents all further refusals of an address. */
function othersOf({ address = null }: NewAuditEntry): NewAuditEntry {
  return { action: 'authenticate', decision: 'refused', address, detail: 'other refusals' }
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

/** Returns the entry with null for the fields that are left out. */
export function completeEntry(entry: NewAuditEntry): AuditEntry {
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
