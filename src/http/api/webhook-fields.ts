import type { WebhookChange, WebhookRequest } from '../../webhooks/management/types.ts'
import type { RouteContext } from '../route.ts'
import { type JsonFields, readFields } from './json-fields.ts'

/** Reads the body of a request that creates a webhook. Throws REQUEST_INVALID. */
export function readWebhookRequest(ctx: RouteContext): Promise<WebhookRequest> {
  return readFields(ctx, (fields) =>
    fields.optionalFields('authentication', (authentication) => ({
      name: fields.text('name'),
      ...changeOf(fields, authentication),
      url: fields.text('url'),
      repositories: fields.texts('repositories'),
      secret: authentication.optionalText('secret'),
    })),
  )
}

/**
 * Reads the body of a request that changes a webhook: omitted fields stay unchanged, null resets them.
 * Throws REQUEST_INVALID.
 */
export function readWebhookChange(ctx: RouteContext): Promise<WebhookChange> {
  return readFields(ctx, (fields) =>
    fields.optionalFields('authentication', (authentication) => changeOf(fields, authentication)),
  )
}

function changeOf(fields: JsonFields, authentication: JsonFields): WebhookChange {
  fields.assertNotNull('url', 'repositories', 'paused')
  const text = (name: string) => fields.optionalText(name)
  const texts = (name: string) => fields.optionalTexts(name)
  const secret = (name: string) =>
    authentication.orNull(name, () => authentication.optionalText(name))
  return {
    url: text('url'),
    repositories: texts('repositories'),
    tags: fields.orNull('tags', texts),
    types: fields.orNull('types', texts),
    format: fields.orNull('format', text),
    body: fields.raw('body'),
    authentication: {
      signatures: authentication.orNull('signatures', (name) => authentication.optionalTexts(name)),
      authorization: secret('authorization'),
      webhookSecret: secret('webhookSecret'),
      oidcAudience: secret('oidcAudience'),
    },
    headers: fields.orNull('headers', (name) => fields.optionalNamedTexts(name)),
    description: fields.orNull('description', text),
    maxAgeSeconds: fields.orNull('maxAgeSeconds', (name) => fields.optionalNumber(name)),
    coalesceTags: fields.orNull('coalesceTags', (name) => fields.optionalFlag(name)),
    paused: fields.optionalFlag('paused'),
  }
}
