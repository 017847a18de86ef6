/** Counts the requests that are being answered, so that a shutdown can wait for them. */
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

  /** Resolves when no request is in flight, or when the time is over. */
  async waitUntilIdle(milliseconds: number): Promise<void> {
    if (this.#count === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds)
      this.#idle.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}
