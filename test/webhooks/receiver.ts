import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'vitest'
import { validateEvent } from '../events/event-schema.ts'

/** A POST as the receiver got it. */
export type Received = {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Answers a POST. */
export type Responder = (received: Received, res: ServerResponse) => void

export type Receiver = {
  readonly url: string
  readonly received: Received[]
  /** Answers the next requests. */
  respond: Responder
  close(): Promise<void>
}

const ACCEPT: Responder = (_, res) => {
  res.writeHead(204).end()
}

/** Answers with a status and headers. */
export function respondWith(status: number, headers: Record<string, string> = {}): Responder {
  return (_, res) => {
    res.writeHead(status, headers).end('no\n')
  }
}

/** Starts an HTTP server that records its requests and answers 204. */
export async function startReceiver(respond: Responder = ACCEPT, port = 0): Promise<Receiver> {
  const received: Received[] = []
  const receiver = { respond }
  const server: Server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk) => chunks.push(chunk))
    req.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      if (req.headers['content-type'] === 'application/cloudevents+json') validateEvent(body)
      const one = { path: req.url ?? '', headers: req.headers, body }
      received.push(one)
      receiver.respond(one, res)
    })
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const { port: actualPort } = server.address() as AddressInfo
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${actualPort}`,
    received,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
}

/** Starts receivers, and closes all of them. */
export class Receivers {
  readonly #open: Receiver[] = []

  readonly start = async (respond?: Responder, port?: number): Promise<Receiver> => {
    const receiver = await startReceiver(respond, port)
    this.#open.push(receiver)
    return receiver
  }

  async close(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((receiver) => receiver.close()))
  }
}

/** Waits until a receiver has at least `count` requests. */
export async function waitForRequests(
  receiver: Receiver,
  count: number,
  seconds = 20,
): Promise<void> {
  await expect
    .poll(() => receiver.received.length, { timeout: seconds * 1000 })
    .toBeGreaterThanOrEqual(count)
}
