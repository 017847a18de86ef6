import { expect } from 'vitest'
import { basic, makeCredential, type NewCredential } from '../auth/credentials-client.ts'
import type { TestRegistry } from '../support/registry.ts'

export const WEBHOOKS = '/api/v1/webhooks'

export type WebhookResponse = { readonly status: number; readonly body: Body }
// biome-ignore lint/suspicious/noExplicitAny: tests assert the content of a body.
type Body = any

/** Sends a request to the webhook API as one caller. */
export type WebhookClient = (
  method: string,
  path: string,
  sent?: unknown,
) => Promise<WebhookResponse>

/** Returns a client that sends this Authorization header; undefined: an anonymous client. */
export function webhookClient(
  registry: TestRegistry,
  authorization: string | undefined,
): WebhookClient {
  return async (method, path, sent) => {
    const answer = await registry.anonymous(`${WEBHOOKS}${path}`, {
      method,
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(sent === undefined ? {} : { body: JSON.stringify(sent) }),
    })
    const text = await answer.text()
    return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
  }
}

export const adminWebhookClient = (registry: TestRegistry) =>
  webhookClient(registry, basic('admin', registry.password))

/** Creates a credential, and returns a client that uses it. */
export async function credentialWebhookClient(registry: TestRegistry, credential: NewCredential) {
  const { name, secret } = await makeCredential(registry, credential)
  return { name, client: webhookClient(registry, basic(name, secret)) }
}

let names = 0

/** Returns an unused name. */
export function newName(): string {
  names += 1
  return `hook-${names}`
}

/** Returns a valid request to create a webhook. */
export const webhookRequest = (more: Record<string, unknown> = {}) => ({
  name: newName(),
  url: 'https://receiver.example/hook',
  repositories: ['builds/**'],
  ...more,
})

/** Creates a webhook with this client. */
export async function createWebhookAs(
  client: WebhookClient,
  more: Record<string, unknown> = {},
): Promise<Body> {
  const { status, body } = await client('POST', '', webhookRequest(more))
  expect({ status, body }).toMatchObject({ status: 201 })
  return body
}

/** Returns the message of an error response. Expects one error with this code, and one line. */
export function errorMessage({ body }: WebhookResponse, code: string): string {
  expect(body.errors).toHaveLength(1)
  expect(body.errors[0]).toMatchObject({ code, message: expect.stringMatching(/^[^\n]+$/) })
  return body.errors[0].message
}

/** Sends a request to the webhook API as the administrator. */
export async function requestWebhooks(
  registry: Pick<TestRegistry, 'request'>,
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: Record<string, never> }> {
  const answer = await registry.request(`${WEBHOOKS}${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, body: text === '' ? {} : JSON.parse(text) }
}

/** Creates a webhook as the administrator. Returns its name and its secret. */
export async function createWebhook(
  registry: Pick<TestRegistry, 'request'>,
  url: string,
  repository: string,
  more: Record<string, unknown> = {},
): Promise<{ name: string; secret: string }> {
  const name = newName()
  const created = await requestWebhooks(registry, 'POST', '', {
    name,
    url,
    repositories: [repository],
    ...more,
  })
  expect(created, JSON.stringify(created.body)).toMatchObject({ status: 201 })
  return { name, secret: created.body.secret as unknown as string }
}

/** A delivery in an API response. */
export type DeliveryJson = {
  event: string
  state: string
  type: string
  attempts: number
  status: number | null
  error: string | null
  dueAt: string | null
}

/** Lists the deliveries of a webhook, newest first. */
export async function listDeliveries(
  registry: Pick<TestRegistry, 'request'>,
  name: string,
): Promise<DeliveryJson[]> {
  const { body } = await requestWebhooks(registry, 'GET', `/${name}/deliveries`)
  return body.deliveries as unknown as DeliveryJson[]
}

/** Waits until a webhook has `count` deliveries and none is pending. Returns them, newest first. */
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
