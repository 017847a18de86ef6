import type { Counted, Elsewhere } from '../../async/elsewhere.ts'
import { NO_PEERS, type Peers } from './peers.ts'

/** A client may exceed a limit for this time, by as many as it reaches at other processes within it. */
const EVERY_MILLISECONDS = 100
/** Clients of one message. The others follow in the next. */
const CHANGED_MAX = 10_000

type Kind = {
  readonly read: () => Counted
  readonly sent: Map<string, number>
  sentTotal: number
  /** Counts of the other processes, by their number. */
  readonly others: Map<number, { total: number; readonly byClient: Map<string, number> }>
}

/** Counts for limits that all processes of this server have together: each process sends the others what changed. */
export class SharedCounts {
  readonly #peers: Peers
  readonly #kinds = new Map<string, Kind>()
  readonly #timer: NodeJS.Timeout | undefined

  constructor(peers: Peers) {
    this.#peers = peers
    if (peers === NO_PEERS) return
    this.#timer = setInterval(() => this.#send(), EVERY_MILLISECONDS).unref()
    peers.onPost('counts', ({ kind, total, changed }, from) => {
      const others = this.#kinds.get(kind)?.others
      if (others === undefined) return
      const other = others.get(from) ?? { total: 0, byClient: new Map() }
      others.set(from, other)
      other.total = total
      for (const [client, count] of changed) {
        if (count === 0) other.byClient.delete(client)
        else other.byClient.set(client, count)
      }
    })
    peers.onJoin(() => {
      for (const { sent } of this.#kinds.values()) sent.clear()
    })
    peers.onLeave((from) => {
      for (const { others } of this.#kinds.values()) others.delete(from)
    })
  }

  /** Shares the counts of a kind. `read` is called again and again. */
  share(kind: string, read: () => Counted): Elsewhere {
    const others: Kind['others'] = new Map()
    this.#kinds.set(kind, { read, sent: new Map(), sentTotal: 0, others })
    const sum = (count: (other: { total: number; byClient: Map<string, number> }) => number) =>
      [...others.values()].reduce((all, other) => all + count(other), 0)
    return {
      of: (client) => sum(({ byClient }) => byClient.get(client) ?? 0),
      get total() {
        return sum(({ total }) => total)
      },
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #send(): void {
    for (const [kind, one] of this.#kinds) {
      const { total, byClient } = one.read()
      const changed = changesOf(one.sent, byClient)
      if (changed.length === 0 && total === one.sentTotal) continue
      one.sentTotal = total
      this.#peers.post('counts', { kind, total, changed })
    }
  }
}

/** Returns what differs from what was sent, and notes it as sent. */
function changesOf(
  sent: Map<string, number>,
  byClient: Iterable<readonly [string, number]>,
): (readonly [string, number])[] {
  const changed: (readonly [string, number])[] = []
  const now = new Map(byClient)
  const note = (client: string, count: number) => {
    if (changed.length >= CHANGED_MAX) return
    changed.push([client, count])
    if (count === 0) sent.delete(client)
    else sent.set(client, count)
  }
  for (const [client, count] of now) if (sent.get(client) !== count) note(client, count)
  for (const client of sent.keys()) if (!now.has(client)) note(client, 0)
  return changed
}
