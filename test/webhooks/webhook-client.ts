import { expect } from 'vitest'
import { basic, makeCredential, type NewCredential } from '../auth/credentials-client.ts'
import type { TestRegistry } from '../support/registry.ts'

export const WEBHOOKS = '/api/v1/webhooks'

export type WebhookAnswer = { readonly status: number; readonly body: Body }
// biome-ignore lint/suspicious/noExplicitAny: what an answer holds is what tests look at.
type Body = any

/** Asks the API about webhooks, as one kind of caller. */
export type WebhookClient = (method: string, path: string, sent?: unknown) => Promise<WebhookAnswer>

/** As whoever has this Authorization header; undefined: as nobody. */
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

/** As the holder of a new credential. */
export async function credentialWebhookClient(registry: TestRegistry, credential: NewCredential) {
  const { name, secret } = await makeCredential(registry, credential)
  return { name, desk: webhookClient(registry, basic(name, secret)) }
}

let names = 0

/** A name that no webhook has. */
export function newName(): string {
  names += 1
  return `hook-${names}`
}

/** What makes a webhook, with nothing wrong in it. */
export const webhookRequest = (more: Record<string, unknown> = {}) => ({
  name: newName(),
  url: 'https://receiver.example/hook',
  repositories: ['builds/**'],
  ...more,
})

/** Makes one, and expects that it is made. */
export async function createdWebhook(
  desk: WebhookClient,
  more: Record<string, unknown> = {},
): Promise<Body> {
  const { status, body } = await desk('POST', '', webhookRequest(more))
  expect({ status, body }).toMatchObject({ status: 201 })
  return body
}

/** The one line of a refusal, which has this code. */
export function errorMessage({ body }: WebhookAnswer, code: string): string {
  expect(body.errors).toHaveLength(1)
  expect(body.errors[0]).toMatchObject({ code, message: expect.stringMatching(/^[^\n]+$/) })
  return body.errors[0].message
}
