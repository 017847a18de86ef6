/** Lets few do something at the same time; the others wait in order, for a limited time. */
export class Turns {
  readonly #waiting: (() => void)[] = []
  #left: number

  constructor(count: number) {
    this.#left = count
  }

  /** Runs `work` when it has a turn. Returns undefined when there is none in time. */
  async take<T>(milliseconds: number, work: () => Promise<T>): Promise<T | undefined> {
    if (!(await this.#wait(milliseconds))) return undefined
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#left += 1
      else next()
    }
  }

  async #wait(milliseconds: number): Promise<boolean> {
    if (this.#left > 0) {
      this.#left -= 1
      return true
    }
    return new Promise((resolve) => {
      const turn = () => {
        clearTimeout(timer)
        resolve(true)
      }
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1)
        resolve(false)
      }, milliseconds)
      this.#waiting.push(turn)
    })
  }
}
