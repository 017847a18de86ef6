import type { DeploymentNotice } from '../db/deployments/notifications.ts'

type Listener = (notice: DeploymentNotice | undefined) => void

/** Passes notifications about deployments and hosts to those that wait for them in this process. */
export class DeploymentSignals {
  readonly #listeners = new Set<Listener>()

  /** Calls the listener for each notice; undefined: anything may have changed. Returns a function that ends it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  emit(notice: DeploymentNotice | undefined): void {
    for (const listener of this.#listeners) listener(notice)
  }
}
