import { setTimeout as delay } from 'node:timers/promises'

/** How a server, or one of its workers, stops. */
export type Leave = {
  /** Time for which it answers as before, but says that it is not ready: load balancers need it. */
  readonly delaySeconds: number
  /** Time for which connections without a request stay open, because the next one may be on its way. */
  readonly idleSeconds: number
}

/** Whether load balancers should send requests to this server. */
export class Readiness {
  /** Called when the server begins to leave. */
  onLeave: () => void = () => {}
  #leave: Leave | undefined

  /** True when the server will stop. */
  get isLeaving(): boolean {
    return this.#leave !== undefined
  }

  get idleSeconds(): number {
    return this.#leave?.idleSeconds ?? 0
  }

  /** Says from now on that the server is not ready, and resolves when it may stop. */
  async leave(leave: Leave): Promise<void> {
    this.#leave = leave
    this.onLeave()
    if (leave.delaySeconds > 0) await delay(leave.delaySeconds * 1000)
  }
}
