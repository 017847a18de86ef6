/** Child processes of the bench that carry out orders. */
import { type ChildProcess, fork } from 'node:child_process'
import { constants, getPriority, setPriority } from 'node:os'
import { fileURLToPath } from 'node:url'

/** Lowers the priority of a process by `nice` steps below that of this one. */
export function lowerPriority({ pid }: ChildProcess, nice: number): void {
  if (pid === undefined || nice === 0) return
  setPriority(pid, Math.min(getPriority() + nice, constants.priority.PRIORITY_LOW))
}

/** The parent's side of a process that answers each order with one report. `file` is next to this one. */
export class Worker<Order extends object, Report> {
  readonly #file: string
  readonly #process: ChildProcess

  /** `nice`: how much lower its priority is than that of this process. */
  constructor(file: string, { nice = 0 } = {}) {
    this.#file = file
    this.#process = fork(fileURLToPath(new URL(file, import.meta.url)))
    lowerPriority(this.#process, nice)
  }

  order(order: Order): Promise<Report> {
    return new Promise((resolve, reject) => {
      const onExit = () => reject(new Error(`the process of ${this.#file} ended`))
      this.#process.once('exit', onExit)
      this.#process.once('message', (report: Report) => {
        this.#process.off('exit', onExit)
        resolve(report)
      })
      this.#process.send(order)
    })
  }

  stop(): void {
    this.#process.kill('SIGKILL')
  }
}
