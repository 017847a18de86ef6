import { type AddressInfo, createServer, type Server } from 'node:net'
import { StartError } from './cleanup.ts'

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there, perhaps another rookery',
  EACCES: 'this user may not listen there',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'this machine has no such address',
}

export type ListenAddress = { readonly host: string; readonly port: number }

/** Throws StartError when the address is not free. Called before anything else starts. */
export async function assertAddressFree(address: ListenAddress): Promise<void> {
  const probe = createServer()
  await listen(probe, address)
  await new Promise((resolve) => probe.close(resolve))
}

/** Listens, and returns the URL. Throws StartError. */
export async function listen(server: Server, { host, port }: ListenAddress): Promise<string> {
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
