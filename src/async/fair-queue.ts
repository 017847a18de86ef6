/** Entries of several clients, which take turns: one with many entries delays another by one entry. */
export class FairQueue<Entry> {
  /** In the order of their turns. A client without entries is not here. */
  readonly #byClient = new Map<string, Entry[]>()
  #length = 0

  /** The number of entries of all clients. */
  get length(): number {
    return this.#length
  }

  /** The number of entries of one client. */
  lengthOf(client: string): number {
    return this.#byClient.get(client)?.length ?? 0
  }

  push(client: string, entry: Entry): void {
    const entries = this.#byClient.get(client)
    if (entries === undefined) this.#byClient.set(client, [entry])
    else entries.push(entry)
    this.#length += 1
  }

  /** Takes the oldest entry of the client whose turn it is; undefined when there is none. */
  shift(): Entry | undefined {
    const [next] = this.#byClient
    if (next === undefined) return undefined
    const [client, entries] = next
    const entry = entries.shift()
    this.#byClient.delete(client)
    if (entries.length > 0) this.#byClient.set(client, entries)
    this.#length -= 1
    return entry
  }
}
