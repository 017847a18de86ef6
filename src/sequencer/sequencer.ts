import { Loop } from '../async/loop.ts'
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
import type { AddressedEvent, RegistryEvent } from '../events/event.ts'

/** Returns the ids of the webhooks that get a delivery of an event. */
export type SelectRecipients = (event: AddressedEvent) => Iterable<number>

export type SequencerOptions = {
  readonly db: Database
  /** The `source` of events: the registry's URL or URN. */
  readonly source: string
  /**
   * Host and port that clients put before a repository's name. Read for each event, because a server
   * on port 0 learns its port late.
   */
  registry(): string
  /** Opens the recipients for one batch, in its transaction. */
  recipients(tx: Transaction): Promise<SelectRecipients>
  onError(error: unknown): void
}

/** Receives, after each batch, the number of its events and the webhooks that have deliveries of them. */
export type OnSequenced = (events: number, recipients: ReadonlySet<number>) => void

type Batch = {
  /** Events that were read from the outbox. */
  readonly found: number
  /** Events that got their position; fewer when they have very many deliveries. */
  readonly sequenced: number
  readonly recipients: ReadonlySet<number>
}

const EVENTS_PER_BATCH_MAX = 256
// A batch may exceed this by the deliveries of one event, which are never split.
const DELIVERIES_PER_BATCH_MAX = 10_000
// Events of a process that died between its commit and their sequencing are found after so long.
const POLL_SECONDS = 1
const EMPTY: Batch = { found: 0, sequenced: 0, recipients: new Set() }

/**
 * Gives committed events their position in the one order of the feed, and adds their deliveries.
 * Every process runs a sequencer; the lock of the feed serializes them.
 */
export class Sequencer {
  readonly #options: SequencerOptions
  readonly #listeners: OnSequenced[] = []
  readonly #sequencing: Loop
  readonly #polling: Loop

  constructor(options: SequencerOptions) {
    this.#options = options
    const { db, onError } = options
    // After a failure the events stay in the outbox, and the next poll finds them.
    this.#sequencing = new Loop({ work: (signal) => this.#sequence(signal), onError })
    this.#polling = new Loop({
      everySeconds: POLL_SECONDS,
      work: async () => {
        if (await hasOutboxEvents(db)) this.poke()
      },
      onError,
    })
  }

  /** Registers a listener. */
  onSequenced(listener: OnSequenced): void {
    this.#listeners.push(listener)
  }

  /** Sequences what is in the outbox now, and polls it from then on. */
  start(): void {
    this.#polling.start()
  }

  /** Sequences in the background: for a caller that has committed events. */
  poke(): void {
    this.#sequencing.poke()
  }

  /** Resolves when every event that is committed now has its position, or sequencing failed. */
  flush(): Promise<void> {
    return this.#sequencing.settle()
  }

  async stop(): Promise<void> {
    await Promise.all([this.#polling.stop(), this.#sequencing.stop()])
  }

  async #sequence(signal: AbortSignal): Promise<void> {
    for (let isDone = false; !isDone && !signal.aborted; ) {
      const { found, sequenced, recipients } = await this.#sequenceBatch()
      if (sequenced > 0) for (const listener of this.#listeners) listener(sequenced, recipients)
      isDone = sequenced === found && found < EVENTS_PER_BATCH_MAX
    }
  }

  #sequenceBatch(): Promise<Batch> {
    const { db, recipients } = this.#options
    return db.transaction(async (tx) => {
      const last = await lockFeed(tx)
      const rows = await listOutbox(tx, EVENTS_PER_BATCH_MAX)
      if (rows.length === 0) return EMPTY
      return this.#publish(tx, rows, new Positions(last), await recipients(tx))
    })
  }

  async #publish(
    tx: Transaction,
    rows: readonly OutboxRow[],
    positions: Positions,
    recipientsOf: SelectRecipients,
  ): Promise<Batch> {
    const events: SequencedEvent[] = []
    const deliveries: NewDelivery[] = []
    for (const row of rows) {
      if (deliveries.length > DELIVERIES_PER_BATCH_MAX) break
      const event = JSON.parse(row.data) as RegistryEvent
      const { position, sequence } = positions.next(row)
      const body = renderCloudEvent(event, {
        id: row.eventId,
        source: this.#options.source,
        registry: this.#options.registry(),
        occurredAt: row.occurredAt,
        sequence,
      })
      const { type } = event
      const { id: outboxId, ...rest } = row
      events.push({ ...rest, type, outboxId, position, sequence, body })
      for (const webhookId of recipientsOf({ ...row, type })) {
        deliveries.push({ webhookId, position })
      }
    }
    await publishEvents(tx, events, deliveries)
    const recipients = new Set(deliveries.map(({ webhookId }) => webhookId))
    return { found: rows.length, sequenced: events.length, recipients }
  }
}

/** Counts the positions of all events, and the sequences of each repository. */
class Positions {
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
