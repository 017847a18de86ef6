import { Loop } from '../async/loop.ts'
import type { Database, Transaction } from '../db/database.ts'
import { notifyDeployment } from '../db/deployments/notifications.ts'
import {
  listOpenDeploymentsOf,
  markLost,
  type PresenceChange,
  recordSeen,
} from '../db/deployments/presence.ts'
import { appendEvents } from '../db/events/outbox.ts'

/** A process records the requests of hosts together, after this time. */
const RECORD_SECONDS = 5
/** How often the time of one host's last request is written. */
const SEEN_SECONDS = 60
/** A host without a request for so long is offline. Its long poll alone is three requests in this time. */
export const LOST_SECONDS = 180
const LOST_CHECK_SECONDS = 15
/** Hosts that one transaction marks as lost. */
const LOST_AT_ONCE = 500
/** Transactions of one check. */
const LOST_ROUNDS_MAX = 100

export type PresenceOptions = {
  readonly db: Database
  /** For so long after `start` no host is lost: it could not reach a registry that was down. */
  readonly graceSeconds: number
  /** Called after each commit that has events. */
  onCommitted(): void
  onError(error: unknown): void
}

/** Knows which hosts are online: those that sent a request of any kind in the last minutes. */
export class Presence {
  readonly #options: PresenceOptions
  readonly #seen = new Set<number>()
  readonly #recording: Loop
  readonly #losing: Loop
  #startedAt = 0

  constructor(options: PresenceOptions) {
    const { onError } = options
    this.#options = options
    this.#recording = new Loop({
      everySeconds: RECORD_SECONDS,
      work: () => this.#record(),
      onError,
    })
    this.#losing = new Loop({
      everySeconds: LOST_CHECK_SECONDS,
      work: (signal) => this.#lose(signal),
      onError,
    })
  }

  start(): void {
    this.#startedAt = performance.now()
    this.#recording.start()
    this.#losing.start()
  }

  /** Records what it knows, and ends. */
  async stop(): Promise<void> {
    await this.#recording.settle()
    await Promise.all([this.#recording.stop(), this.#losing.stop()])
  }

  /** Notes that a host sent a request. Costs no statement of its own. */
  seen(hostId: number): void {
    this.#seen.add(hostId)
  }

  async #record(): Promise<void> {
    if (this.#seen.size === 0) return
    const hostIds = [...this.#seen]
    const returned = await this.#options.db.transaction(async (tx) => {
      const hosts = await recordSeen(tx, hostIds, SEEN_SECONDS)
      await announce(tx, hosts, 'host.returned')
      return hosts
    })
    for (const id of hostIds) this.#seen.delete(id)
    if (returned.length > 0) this.#options.onCommitted()
  }

  async #lose(signal: AbortSignal): Promise<void> {
    if (performance.now() - this.#startedAt < this.#options.graceSeconds * 1000) return
    for (let round = 0; round < LOST_ROUNDS_MAX && !signal.aborted; round += 1) {
      const lost = await this.#options.db.transaction(async (tx) => {
        const hosts = await markLost(tx, LOST_SECONDS, LOST_AT_ONCE)
        await announce(tx, hosts, 'host.lost')
        return hosts.length
      })
      if (lost > 0) this.#options.onCommitted()
      if (lost < LOST_AT_ONCE) return
    }
  }
}

/** Records the events of hosts, and notifies the deployments that wait for them. */
async function announce(
  tx: Transaction,
  hosts: readonly PresenceChange[],
  type: 'host.lost' | 'host.returned',
): Promise<void> {
  if (hosts.length === 0) return
  await appendEvents(
    tx,
    hosts.map(({ name, labels, seenAt }) => ({
      event: { type, host: name, labels, seenAt: seenAt?.toISOString() ?? null },
      repositoryId: null,
    })),
  )
  const hostIds = hosts.map(({ id }) => id)
  for (const id of await listOpenDeploymentsOf(tx, hostIds)) await notifyDeployment(tx, id)
}
