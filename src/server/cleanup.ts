/** The reason why the server cannot start, in one line that says what to do. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** The steps that close what was opened so far. They run once, in reverse order. */
export class CleanupStack {
  readonly #steps: (() => Promise<void> | void)[] = []

  /** Adds a step that `run` takes before the steps added earlier. */
  defer(step: () => Promise<void> | void): void {
    this.#steps.push(step)
  }

  /** Runs every step, also when one of them fails, and throws the first failure. */
  async run(): Promise<void> {
    let failure: { error: unknown } | undefined
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step()
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== undefined) throw failure.error
  }
}

/** Runs a start with a stack of its own. When it fails, what it opened is closed, and the failure is thrown. */
export async function withCleanup<T>(start: (cleanup: CleanupStack) => Promise<T>): Promise<T> {
  const cleanup = new CleanupStack()
  try {
    return await start(cleanup)
  } catch (error) {
    await cleanup.run()
    throw error
  }
}
