import { type AddressInfo, createServer, type Server } from 'node:net'

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
  EADDRINUSE: 'something listens there already, perhaps another rookery',
  EACCES: 'this user may not listen there',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'this machine has no such address',
}

export type Endpoint = { readonly host: string; readonly port: number }

/** Asks before anything else is started whether the address is free. Throws StartError. */
export async function demandFree(endpoint: Endpoint): Promise<void> {
  const probe = createServer()
  await listen(probe, endpoint)
  await new Promise((resolve) => probe.close(resolve))
}

/** Returns the URL. Throws StartError in one line. */
export async function listen(server: Server, { host, port }: Endpoint): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = REASONS[error.code ?? ''] ?? error.message
      reject(
        new StartError(
          `cannot listen on ${host}:${port}: ${reason}; ROOKERY_LISTEN sets another address`,
          {
            cause: error,
          },
        ),
      )
    })
    server.listen(port, host, resolve)
  })
  const { port: taken } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${taken}`
}
