import type { Database, Transaction } from '../db/database.ts'
import {
  hasOutboxEvents,
  listOutbox,
  lockFeed,
  type NewDelivery,
  type OutboxRow,
  publishEvents,
  type SequencedEvent,
} from '../db/events/outbox.ts'
import { renderCloudEvent } from '../events/cloud-event.ts'
import type { RegistryEvent } from '../events/event.ts'
import { matchesFilter } from '../events/filter.ts'
import type { Webhook } from '../webhooks/webhook.ts'
import type { WebhookCache } from '../webhooks/webhook-cache.ts'

export type SequencerOptions = {
  readonly db: Database
  readonly endpoints: WebhookCache
  /** What events call this registry: its URL or URN, and what clients put before a repository. */
  readonly source: string
  /** Asked for each batch: a server that listens on any free port knows it late. */
  registry(): string
  /** Told when events became public: how many, and which endpoints are to be told. */
  onSequenced(events: number, webhookIds: ReadonlySet<number>): void
  onError(error: unknown): void
}

const EVENTS_A_BATCH_MAX = 256
// One event more may make it longer: an event goes to all of its endpoints at once.
const DELIVERIES_A_BATCH_MAX = 10_000
// What another process committed and did not live to dispatch is found after so long.
const POLL_MILLISECONDS = 1_000
const STOP_MILLISECONDS_MAX = 5_000
const NOTHING = { found: 0, placed: 0, told: new Set<number>() }

/**
 * Gives committed events their place in the one order that everybody sees, and notes whom to tell.
 * Every process does; the lock of the feed lets them do it one after the other.
 */
export class Sequencer {
  readonly #options: SequencerOptions
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #asked = false
  #stopped = false

  constructor(options: SequencerOptions) {
    this.#options = options
  }

  /** Looks now, and from then on each second. */
  start(): void {
    this.#timer = setInterval(() => {
      this.#look().catch(this.#options.onError)
    }, POLL_MILLISECONDS)
    this.#timer.unref()
    this.poke()
  }

  /** Something was committed. */
  poke(): void {
    void this.flush()
  }

  /** Resolves when everything that is committed now has its place, or could not get it. */
  async flush(): Promise<void> {
    this.#asked = true
    // Who runs already may have looked before: it looks once more.
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined
    })
    await this.#running
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    const late = new Promise((resolve) => setTimeout(resolve, STOP_MILLISECONDS_MAX).unref())
    await Promise.race([this.#running, late])
  }

  async #look(): Promise<void> {
    if (
      this.#running === undefined &&
      !this.#stopped &&
      (await hasOutboxEvents(this.#options.db))
    ) {
      await this.flush()
    }
  }

  async #run(): Promise<void> {
    try {
      while (this.#asked && !this.#stopped) {
        this.#asked = false
        while (!this.#stopped && (await this.#dispatchBatch())) {}
      }
    } catch (error) {
      // They stay in the outbox, and the next look finds them.
      if (!this.#stopped) this.#options.onError(error)
    }
  }

  /** True when there may be more. */
  async #dispatchBatch(): Promise<boolean> {
    const { db, endpoints } = this.#options
    const { found, placed, told } = await db.transaction(async (tx) => {
      const last = await lockFeed(tx)
      const rows = await listOutbox(tx, EVENTS_A_BATCH_MAX)
      if (rows.length === 0) return NOTHING
      const known = [...(await endpoints.current(tx)).values()]
      return { found: rows.length, ...(await this.#publish(tx, rows, last, known)) }
    })
    if (placed > 0) this.#options.onSequenced(placed, told)
    return placed < found || found === EVENTS_A_BATCH_MAX
  }

  async #publish(
    tx: Transaction,
    rows: readonly OutboxRow[],
    last: number,
    endpoints: readonly Webhook[],
  ): Promise<{ placed: number; told: ReadonlySet<number> }> {
    const places = new Places(last)
    const events: SequencedEvent[] = []
    const deliveries: NewDelivery[] = []
    for (const row of rows) {
      if (deliveries.length > DELIVERIES_A_BATCH_MAX) break
      const event = JSON.parse(row.data) as RegistryEvent
      const { position, sequence } = places.next(row)
      const body = renderCloudEvent(event, {
        id: row.eventId,
        source: this.#options.source,
        registry: this.#options.registry(),
        occurredAt: row.occurredAt,
        sequence,
      })
      const { id: outboxId, ...rest } = row
      events.push({ ...rest, type: event.type, outboxId, position, sequence, body })
      for (const endpoint of endpoints) {
        if (isFor(endpoint, row, event)) deliveries.push({ webhookId: endpoint.id, position })
      }
    }
    await publishEvents(tx, events, deliveries)
    const told = new Set(deliveries.map(({ webhookId }) => webhookId))
    return { placed: events.length, told }
  }
}

function isFor({ id, filter }: Webhook, row: OutboxRow, { type }: RegistryEvent): boolean {
  if (row.webhookId !== null) return row.webhookId === id
  return matchesFilter(filter, { type, repository: row.repository, tag: row.tag })
}

/** Counts on, for all events and within each repository. */
class Places {
  #position: number
  readonly #sequences = new Map<number, number>()

  constructor(last: number) {
    this.#position = last
  }

  next({ repositoryId, lastSequence }: OutboxRow): { position: number; sequence: number | null } {
    this.#position += 1
    if (repositoryId === null) return { position: this.#position, sequence: null }
    const sequence = (this.#sequences.get(repositoryId) ?? lastSequence) + 1
    this.#sequences.set(repositoryId, sequence)
    return { position: this.#position, sequence }
  }
}
