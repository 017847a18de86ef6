type Waiting<Key, Value> = {
  key: Key
  resolve(value: Value): void
  reject(error: unknown): void
}

/**
 * One lookup at a time: those that arrive while one is in flight travel together in the next. So
 * under load a round trip is shared, and an answer is never older than its question.
 */
export class Batcher<Key, Value> {
  readonly #run: (keys: Key[]) => Promise<Value[]>
  readonly #keysMax: number
  #waiting: Waiting<Key, Value>[] = []
  #flying = false

  /** `run` answers in the order of its keys. */
  constructor(run: (keys: Key[]) => Promise<Value[]>, keysMax: number) {
    this.#run = run
    this.#keysMax = keysMax
  }

  find(key: Key): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject })
      if (this.#flying) return
      this.#flying = true
      // Requests that arrived in the same turn of the event loop are read before this runs.
      setImmediate(() => void this.#fly())
    })
  }

  async #fly(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, this.#keysMax)
      try {
        const values = await this.#run(group.map(({ key }) => key))
        group.forEach(({ resolve }, index) => {
          resolve(values[index] as Value)
        })
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
    this.#flying = false
  }
}
