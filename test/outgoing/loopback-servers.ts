import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import {
  type AddressInfo,
  createServer as createNetServer,
  type Server as NetServer,
  type Socket,
} from 'node:net'
import {
  type GuardedClient,
  OutgoingFailedError,
  type OutgoingRequest,
} from '../../src/outgoing/client.ts'
import { OutgoingRefusedError } from '../../src/outgoing/guard.ts'

/** The networks of the machine that runs the tests. */
export const LOOPBACK = ['127.0.0.0/8']

export type TestServer = {
  readonly port: number
  /** The number of connections to it so far. */
  readonly connections: () => number
  close(): Promise<void>
}

/** Starts another party's server on an address of this machine. */
export async function serve(
  listener: RequestListener,
  address = '127.0.0.1',
  port = 0,
): Promise<TestServer> {
  const server = createServer(listener)
  // On a busy machine a test may take longer than Node's five seconds.
  server.keepAliveTimeout = 60_000
  return opened(server, address, port, () => server.closeAllConnections())
}

/** Starts a server of any kind. */
export async function opened(
  server: NetServer | Server,
  address = '127.0.0.1',
  port = 0,
  cut: () => void = () => {},
): Promise<TestServer> {
  let connections = 0
  server.on('connection', () => {
    connections += 1
  })
  server.listen(port, address)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    async close() {
      server.close()
      cut()
      await once(server, 'close')
    },
  }
}

/** Resolves when a connection is closed, also by a reset. */
export function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

/** Starts a TCP server; `speak` gets each connection. */
export async function serveRaw(speak: (socket: Socket) => void): Promise<TestServer> {
  const sockets = new Set<Socket>()
  const listener = createNetServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    speak(socket)
  })
  return opened(listener, '127.0.0.1', 0, () => {
    for (const socket of sockets) socket.destroy()
  })
}

/** Sends a request, and returns its result: a response, a refusal of the guard, or a failure. */
export async function outcome(
  client: GuardedClient,
  url: string,
  request: OutgoingRequest = {},
): Promise<{ kind: 'answered' | 'refused' | 'failed'; message: string }> {
  try {
    const { status } = await client.request(url, request)
    return { kind: 'answered', message: String(status) }
  } catch (error) {
    if (error instanceof OutgoingRefusedError) return { kind: 'refused', message: error.message }
    if (error instanceof OutgoingFailedError) return { kind: 'failed', message: error.message }
    throw error
  }
}
