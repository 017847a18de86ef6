import type { ToPrimary, ToWorker } from '../../src/server/workers/messages.ts'
import { PrimaryChannel } from '../../src/server/workers/primary-channel.ts'
import { WorkerChannel } from '../../src/server/workers/worker-channel.ts'

/** A primary and its workers in this process. Messages between them go through JSON, as between processes. */
export class ConnectedPeers {
  readonly primary = new PrimaryChannel()
  #workers = 0

  /** Adds a worker. `leave` ends it. */
  join(): { readonly channel: WorkerChannel; leave(): void } {
    this.#workers += 1
    const id = this.#workers
    const copy = <T>(message: T): T => JSON.parse(JSON.stringify(message))
    const channel: WorkerChannel = new WorkerChannel((message: ToPrimary) => {
      queueMicrotask(() => this.primary.receive(reachable, copy(message)))
    })
    const send = (message: ToWorker) => queueMicrotask(() => channel.receive(copy(message)))
    const reachable = { id, send }
    this.primary.add(reachable)
    return { channel, leave: () => this.primary.remove(reachable) }
  }
}
