import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Why the server cannot start, in one line that says what to do. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

/** What was started so far, to be stopped in the reverse order, once. */
export class Starting {
  readonly #steps: (() => Promise<void> | void)[] = []

  did(stop: () => Promise<void> | void): void {
    this.#steps.push(stop)
  }

  /** Stops everything, also when one of them fails, and throws the first failure. */
  async undo(): Promise<void> {
    let failure: { error: unknown } | undefined
    for (let stop = this.#steps.pop(); stop !== undefined; stop = this.#steps.pop()) {
      try {
        await stop()
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== undefined) throw failure.error
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there already',
  EACCES: 'this user may not listen there',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'this machine has no such address',
}

/** Returns the URL. Throws StartError in one line. */
export async function listen(
  server: Server,
  { host, port }: { host: string; port: number },
): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = REASONS[error.code ?? ''] ?? error.message
      reject(
        new StartError(`cannot listen on ${host}:${port}: ${reason}; set ROOKERY_LISTEN`, {
          cause: error,
        }),
      )
    })
    server.listen(port, host, resolve)
  })
  const { port: taken } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${taken}`
}
