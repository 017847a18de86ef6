/** Counts what is running, for whoever must wait until nothing is. */
export class InFlightRequests {
  #count = 0
  #idle: (() => void)[] = []

  begin(): void {
    this.#count += 1
  }

  end(): void {
    this.#count -= 1
    if (this.#count > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** Resolves when nothing runs, or when the time is over. */
  async waitUntilIdle(milliseconds: number): Promise<void> {
    if (this.#count === 0) return
    await new Promise<void>((resolve) => {
      const late = setTimeout(resolve, milliseconds)
      this.#idle.push(() => {
        clearTimeout(late)
        resolve()
      })
    })
  }
}
