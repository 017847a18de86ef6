import type { RegistryIssuer } from '../../auth/access-tokens.ts'
import type { WebhookSettings } from '../../db/webhooks/webhooks.ts'
import { findTemplateProblem, typesOfTemplate } from '../../events/body-template.ts'
import { CD_EVENT_TYPES, isCdEventsFormat } from '../../events/cd-event.ts'
import {
  DEFAULT_TYPES,
  type EventType,
  FILTERABLE_TYPES,
  isAboutRegistry,
} from '../../events/event.ts'
import { badRequest, RegistryError } from '../../oci/errors.ts'
import { type Glob, parseRepositoryGlob, parseTagGlob } from '../../oci/glob.ts'
import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import {
  CUSTOM_HEADER_BYTES_MAX,
  CUSTOM_HEADERS_MAX,
  isCustomHeader,
  isSigningSecret,
} from '../signature.ts'
import { SIGNATURES, WEBHOOK_FORMATS } from '../webhook.ts'
import type { WebhookChange } from './types.ts'

/** The parts of a registry that validation needs. */
export type ValidationContext = {
  readonly client: Pick<GuardedClient, 'assertUrlAllowed'>
  /** Reaches public addresses only. */
  readonly publicClient: Pick<GuardedClient, 'assertUrlAllowed'>
  readonly issuer: RegistryIssuer
}

/** The largest `maxAgeSeconds`: the registry itself prunes older events. */
export const AGE_SECONDS_MAX = 30 * 86_400
const PATTERNS_MAX = 50
const PATTERNS_LENGTH_MAX = 4096
// Servers limit all headers together to 8 or 16 KiB, and the headers of a delivery are among them.
const HEADERS_LENGTH_MAX = 6144
const DESCRIPTION_LENGTH_MAX = 1000
const AUDIENCE_LENGTH_MAX = 255
const SHOWN_LENGTH_MAX = 64

/** The default settings of a webhook. */
export const SETTINGS_DEFAULT = {
  tags: null,
  types: DEFAULT_TYPES.filter((type) => !isAboutRegistry(type)),
  format: 'cloudevents',
  body: null,
  signatures: [],
  oidcAudience: null,
  headers: {},
  description: null,
  maxAgeSeconds: null,
  coalesceTags: false,
} as const satisfies Partial<WebhookSettings>

/**
 * Applies a change to the settings of a webhook. Throws REQUEST_INVALID, which names the field, the
 * problem and the rule.
 */
export function applyChange(
  current: WebhookSettings,
  change: WebhookChange,
  context: ValidationContext,
): WebhookSettings {
  const { authentication } = change
  const { signatures, oidcAudience } = authentication
  return {
    url: changed(change.url, current.url, current.url, (url) => parseWebhookUrl(url, context)),
    repositories: changed(change.repositories, current.repositories, [], (texts) =>
      parseGlobs('repositories', texts, parseRepositoryGlob),
    ),
    tags: changed(change.tags, current.tags, SETTINGS_DEFAULT.tags, (texts) =>
      parseGlobs('tags', texts, parseTagGlob),
    ),
    types: changed(change.types, current.types, SETTINGS_DEFAULT.types, parseTypes),
    format: changed(change.format, current.format, SETTINGS_DEFAULT.format, (text) =>
      parseOneOf('format', WEBHOOK_FORMATS, text),
    ),
    body: changed(change.body, current.body, SETTINGS_DEFAULT.body, parseBody),
    signatures: changed(signatures, current.signatures, SETTINGS_DEFAULT.signatures, (texts) => {
      const named = texts.map((text) => parseOneOf('authentication.signatures', SIGNATURES, text))
      return SIGNATURES.filter((one) => named.includes(one))
    }),
    oidcAudience: changed(oidcAudience, current.oidcAudience, null, (text) =>
      parseAudience(text, context.issuer),
    ),
    headers: changed(change.headers, current.headers, SETTINGS_DEFAULT.headers, parseHeaders),
    description: changed(change.description, current.description, null, parseDescription),
    maxAgeSeconds: changed(change.maxAgeSeconds, current.maxAgeSeconds, null, parseMaxAge),
    coalesceTags: changed(change.coalesceTags, current.coalesceTags, false, (is) => is),
  }
}

/**
 * Throws REQUEST_INVALID unless the webhook can render its template for each event that it receives: a request with an empty
 * tag or digest would make a receiver act.
 */
export function assertBodyFits({
  body,
  format,
  types,
}: Pick<WebhookSettings, 'body' | 'format' | 'types'>): void {
  if (body === null) return
  if (format !== SETTINGS_DEFAULT.format) {
    throw invalidField('body', `is sent instead of events, so format must not be ${format}`)
  }
  const possible = typesOfTemplate(body)
  const type = types.find((one) => !possible.includes(one))
  if (type === undefined) return
  throw invalidField(
    'body',
    `has a variable without a value in ${type}: restrict types to ${possible.join(', ')}`,
  )
}

/** Throws REQUEST_INVALID when the format has nothing for one of the types. */
export function assertFormatFits({
  format,
  types,
}: Pick<WebhookSettings, 'format' | 'types'>): void {
  if (!isCdEventsFormat(format)) return
  const type = types.find((one) => !CD_EVENT_TYPES.includes(one))
  if (type === undefined) return
  throw invalidField(
    'format',
    `${format} has no event for ${type}: restrict types to ${CD_EVENT_TYPES.join(', ')}`,
  )
}

/** Parses `authorization` or `webhookSecret`. Throws REQUEST_INVALID, which never quotes the value. */
export function parseHeaderSecret(name: string, value: string): string {
  if (value !== '' && value.length <= CUSTOM_HEADER_BYTES_MAX && isHeaderValue(value)) return value
  throw invalidField(
    name,
    `must be a header value: 1 to ${CUSTOM_HEADER_BYTES_MAX} ASCII characters, no control characters, and no space at either end`,
  )
}

/** Parses a given signing secret. Throws REQUEST_INVALID, which never quotes it. */
export function parseSigningSecret(secret: string): string {
  if (isSigningSecret(secret)) return secret
  throw invalidField(
    'secret',
    'must be whsec_ and 24 to 64 random bytes in base64; omit it to generate one',
  )
}

/** Returns a REQUEST_INVALID error about one field. */
export function invalidField(field: string, rule: string, cause?: unknown): RegistryError {
  return badRequest(`${field} ${rule}`, { field, cause })
}

function changed<T, U>(
  change: T | null | undefined,
  current: U,
  defaultValue: U,
  parse: (value: T) => U,
): U {
  if (change === undefined) return current
  return change === null ? defaultValue : parse(change)
}

function parseWebhookUrl(url: string, { client }: ValidationContext): string {
  // Checked as text, because the URL parser removes characters silently.
  if (!/^https?:\/\/[\x21-\x7e]+$/.test(url)) {
    throw invalidField(
      'url',
      'must be a URL such as https://example.org/hook, in ASCII and without spaces',
    )
  }
  if (url.includes('#'))
    throw invalidField('url', 'must not have a fragment: the part after # is never sent')
  try {
    client.assertUrlAllowed(url)
  } catch (error) {
    if (!(error instanceof OutgoingRefusedError)) throw error
    throw invalidField('url', `cannot be used: ${error.message}`, error)
  }
  return url
}

function parseGlobs(
  field: string,
  texts: readonly string[],
  parse: (text: string) => Glob,
): Glob[] {
  if (texts.length === 0 || texts.length > PATTERNS_MAX) {
    throw invalidField(field, `must have 1 to ${PATTERNS_MAX} patterns, not ${texts.length}`)
  }
  if (texts.join().length > PATTERNS_LENGTH_MAX) {
    throw invalidField(
      field,
      `must have at most ${PATTERNS_LENGTH_MAX} characters in all patterns together`,
    )
  }
  return [...new Set(texts)].map((text) => {
    try {
      return parse(text)
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error
      throw invalidField(field, `contains "${shown(text)}": ${error.message}`, error)
    }
  })
}

function parseTypes(texts: readonly string[]): EventType[] {
  if (texts.length === 0)
    throw invalidField('types', 'must not be empty; omit it for all events of its repositories')
  const named = texts.map((text) => parseOneOf('types', FILTERABLE_TYPES, text))
  return FILTERABLE_TYPES.filter((type) => named.includes(type))
}

function parseBody(value: unknown): string {
  const problem = findTemplateProblem(value)
  if (problem !== undefined) throw invalidField('body', problem)
  return JSON.stringify(value)
}

function parseAudience(text: string, { url, service }: RegistryIssuer): string {
  const field = 'authentication.oidcAudience'
  if (text === '' || text.length > AUDIENCE_LENGTH_MAX || /\p{C}/u.test(text)) {
    throw invalidField(
      field,
      `must be the aud claim that the receiver expects, 1 to ${AUDIENCE_LENGTH_MAX} characters`,
    )
  }
  if (text === service || text === url) {
    throw invalidField(field, 'must name the receiver, not this registry')
  }
  if (!/^https?:/.test(url)) {
    throw invalidField(field, 'needs a registry with a public URL: set ROOKERY_PUBLIC_URL')
  }
  return text
}

function parseHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(headers)
  if (entries.length > CUSTOM_HEADERS_MAX) {
    throw invalidField('headers', `must be at most ${CUSTOM_HEADERS_MAX}, not ${entries.length}`)
  }
  const names = new Set<string>()
  let length = 0
  for (const [name, value] of entries) {
    if (!isCustomHeader(name)) {
      throw invalidField(
        'headers',
        `contains "${shown(name)}", which is not a header name or is set by the registry`,
      )
    }
    if (names.has(name.toLowerCase()))
      throw invalidField('headers', `contains ${shown(name)} twice`)
    if (value.length > CUSTOM_HEADER_BYTES_MAX || !isHeaderValue(value)) {
      throw invalidField(
        `headers.${shown(name)}`,
        `must have at most ${CUSTOM_HEADER_BYTES_MAX} ASCII characters, no control characters, and no space at either end`,
      )
    }
    names.add(name.toLowerCase())
    length += name.length + value.length
  }
  if (length > HEADERS_LENGTH_MAX) {
    throw invalidField('headers', `must have at most ${HEADERS_LENGTH_MAX} characters together`)
  }
  return Object.fromEntries(entries)
}

function isHeaderValue(value: string): boolean {
  return /^[\x20-\x7e]*$/.test(value) && value === value.trim()
}

function parseDescription(text: string): string {
  if (text.length <= DESCRIPTION_LENGTH_MAX && !/[^\P{Cc}\n]/u.test(text)) return text
  throw invalidField(
    'description',
    `must have at most ${DESCRIPTION_LENGTH_MAX} characters, and no control characters except line feeds`,
  )
}

function parseMaxAge(seconds: number): number {
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= AGE_SECONDS_MAX) return seconds
  throw invalidField('maxAgeSeconds', `must be 1 to ${AGE_SECONDS_MAX}, not ${seconds}`)
}

function parseOneOf<T extends string>(field: string, valid: readonly T[], text: string): T {
  const found = valid.find((one) => one === text)
  if (found !== undefined) return found
  throw invalidField(
    field,
    `has the unknown value "${shown(text)}"; the valid values are ${valid.join(', ')}`,
  )
}

function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX)
}
