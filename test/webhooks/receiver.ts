import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'vitest'
import { validateEvent } from '../events/event-schema.ts'
import type { TestRegistry } from '../support/registry.ts'

/** One POST, as a receiver saw it. */
export type Received = {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** What a receiver does with a POST; without it, it answers 204. */
export type Responder = (received: Received, res: ServerResponse) => void

export type Receiver = {
  readonly url: string
  readonly received: Received[]
  /** From now on it answers so. */
  answer: Responder
  close(): Promise<void>
}

const ACCEPT: Responder = (_, res) => {
  res.writeHead(204).end()
}

/** Answers with a status, and headers. */
export function respondWith(status: number, headers: Record<string, string> = {}): Responder {
  return (_, res) => {
    res.writeHead(status, headers).end('no\n')
  }
}

/** A real HTTP server that remembers what it is sent. */
export async function startReceiver(answer: Responder = ACCEPT, port = 0): Promise<Receiver> {
  const received: Received[] = []
  const receiver = { answer }
  const server: Server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk) => chunks.push(chunk))
    req.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      if (req.headers['content-type'] === 'application/cloudevents+json') validateEvent(body)
      const one = { path: req.url ?? '', headers: req.headers, body }
      received.push(one)
      receiver.answer(one, res)
    })
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const { port: taken } = server.address() as AddressInfo
  return Object.assign(receiver, {
    url: `http://127.0.0.1:${taken}`,
    received,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  })
}

/** Receivers that are closed together. */
export class Receivers {
  readonly #open: Receiver[] = []

  readonly start = async (answer?: Responder, port?: number): Promise<Receiver> => {
    const receiver = await startReceiver(answer, port)
    this.#open.push(receiver)
    return receiver
  }

  async close(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((receiver) => receiver.close()))
  }
}

/** Asks the API as the administrator, with JSON. */
export async function requestWebhooks(
  registry: Pick<TestRegistry, 'request'>,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: Record<string, never> }> {
  const answer = await registry.request(`/api/v1/webhooks${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, body: text === '' ? {} : JSON.parse(text) }
}

let names = 0

/** Subscribes, and returns the name and the secret. */
export async function createWebhook(
  registry: Pick<TestRegistry, 'request'>,
  url: string,
  repository: string,
  more: Record<string, unknown> = {},
): Promise<{ name: string; secret: string }> {
  names += 1
  const name = `hook-${names}`
  const made = await requestWebhooks(registry, 'POST', '', {
    name,
    url,
    repositories: [repository],
    ...more,
  })
  expect(made, JSON.stringify(made.body)).toMatchObject({ status: 201 })
  return { name, secret: made.body.secret as unknown as string }
}

/** Waits until a receiver has so many. */
export async function waitForRequests(
  receiver: Receiver,
  count: number,
  seconds = 10,
): Promise<void> {
  await expect
    .poll(() => receiver.received.length, { timeout: seconds * 1000 })
    .toBeGreaterThanOrEqual(count)
}

/** A delivery as the API shows it. */
export type DeliveryJson = {
  event: string
  state: string
  type: string
  attempts: number
  status: number | null
  error: string | null
  dueAt: string | null
}

/** Of a webhook, the newest first. */
export async function listDeliveries(
  registry: Pick<TestRegistry, 'request'>,
  name: string,
): Promise<DeliveryJson[]> {
  const { body } = await requestWebhooks(registry, 'GET', `/${name}/deliveries`)
  return body.deliveries as unknown as DeliveryJson[]
}

/** What became of the events of a webhook, the newest first, once none waits any more. */
export async function waitForEndedDeliveries(
  registry: Pick<TestRegistry, 'request'>,
  name: string,
  count: number,
): Promise<DeliveryJson[]> {
  const states = async () => (await listDeliveries(registry, name)).map(({ state }) => state)
  await expect.poll(states, { timeout: 20_000 }).toHaveLength(count)
  await expect.poll(states, { timeout: 20_000 }).not.toContain('pending')
  return listDeliveries(registry, name)
}
