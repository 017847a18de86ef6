type Entry<Item, Result> = {
  readonly item: Item
  resolve(result: Result): void
  reject(error: unknown): void
}

/**
 * Collects items into batches, one batch at a time: items that arrive while a batch is in flight
 * travel together in the next. Under load they share a round trip, and a result is never older than
 * its request. When a batch fails, each of its items fails.
 */
export class Batcher<Item, Result> {
  readonly #run: (items: Item[]) => Promise<Result[]>
  readonly #itemsMax: number
  #queue: Entry<Item, Result>[] = []
  #isRunning = false

  /** `run` returns its results in the order of its items, of which there are at most `itemsMax`. */
  constructor(run: (items: Item[]) => Promise<Result[]>, itemsMax: number) {
    this.#run = run
    this.#itemsMax = itemsMax
  }

  /** Looks up one key: for a batcher that reads. */
  load(key: Item): Promise<Result> {
    return this.#add(key)
  }

  /** Adds one item to write: for a batcher that writes. */
  submit(item: Item): Promise<Result> {
    return this.#add(item)
  }

  #add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ item, resolve, reject })
      if (this.#isRunning) return
      this.#isRunning = true
      // Requests that arrived in the same turn of the event loop are read before this runs.
      setImmediate(() => void this.#drain())
    })
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, this.#itemsMax)
      try {
        const results = await this.#run(batch.map(({ item }) => item))
        batch.forEach(({ resolve }, index) => {
          resolve(results[index] as Result)
        })
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    this.#isRunning = false
  }
}
