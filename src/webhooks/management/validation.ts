import type { RegistryIssuer } from '../../auth/access-tokens.ts'
import type { WebhookSettings } from '../../db/webhooks/webhooks.ts'
import { type EventType, FILTERABLE_TYPES } from '../../events/event.ts'
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

/** What checking needs to know of this registry. */
export type ValidationContext = {
  readonly client: Pick<GuardedClient, 'assertUrlAllowed'>
  readonly issuer: RegistryIssuer
}

/** Longest that an event may wait before it is of no use any more: the registry itself forgets it. */
export const AGE_SECONDS_MAX = 30 * 86_400
const GLOBS_MAX = 50
const GLOBS_LENGTH_MAX = 4096
// Receivers end all headers together at 8 or 16 KiB, and ours are among them.
const HEADERS_LENGTH_MAX = 6144
const DESCRIPTION_LENGTH_MAX = 1000
const AUDIENCE_LENGTH_MAX = 255
const SHOWN_LENGTH_MAX = 64

/** What is not asked for. */
export const SETTINGS_DEFAULT = {
  tags: null,
  types: FILTERABLE_TYPES.filter((type) => type.startsWith('image.')),
  format: 'cloudevents',
  signatures: [],
  oidcAudience: null,
  headers: {},
  description: null,
  maxAgeSeconds: null,
  coalesceTags: false,
} as const satisfies Partial<WebhookSettings>

/**
 * What a webhook becomes by a change. Throws REQUEST_INVALID, which names the field, what was wrong and
 * what is right.
 */
export function applyChange(
  current: WebhookSettings,
  change: WebhookChange,
  surroundings: ValidationContext,
): WebhookSettings {
  const { authentication } = change
  const { signatures, oidcAudience } = authentication
  return {
    url: changed(change.url, current.url, current.url, (url) => checkedUrl(url, surroundings)),
    repositories: changed(change.repositories, current.repositories, [], (texts) =>
      globsOf('repositories', texts, parseRepositoryGlob),
    ),
    tags: changed(change.tags, current.tags, SETTINGS_DEFAULT.tags, (texts) =>
      globsOf('tags', texts, parseTagGlob),
    ),
    types: changed(change.types, current.types, SETTINGS_DEFAULT.types, checkedTypes),
    format: changed(change.format, current.format, SETTINGS_DEFAULT.format, (text) =>
      oneOf('format', WEBHOOK_FORMATS, text),
    ),
    signatures: changed(signatures, current.signatures, SETTINGS_DEFAULT.signatures, (texts) => {
      const named = texts.map((text) => oneOf('authentication.signatures', SIGNATURES, text))
      return SIGNATURES.filter((one) => named.includes(one))
    }),
    oidcAudience: changed(oidcAudience, current.oidcAudience, null, (text) =>
      checkedAudience(text, surroundings.issuer),
    ),
    headers: changed(change.headers, current.headers, SETTINGS_DEFAULT.headers, checkedHeaders),
    description: changed(change.description, current.description, null, checkedDescription),
    maxAgeSeconds: changed(change.maxAgeSeconds, current.maxAgeSeconds, null, checkedAge),
    coalesceTags: changed(change.coalesceTags, current.coalesceTags, false, (is) => is),
  }
}

/** `authorization` or `webhookSecret`. Throws REQUEST_INVALID, which never repeats it. */
export function parseHeaderSecret(name: string, value: string): string {
  if (value !== '' && value.length <= CUSTOM_HEADER_BYTES_MAX && isHeaderValue(value)) return value
  throw invalid(
    name,
    `is a header's value: 1 to ${CUSTOM_HEADER_BYTES_MAX} ASCII characters without control characters, and no space at either end`,
  )
}

/** A signing secret that was given. Throws REQUEST_INVALID, which never repeats it. */
export function parseSigningSecret(secret: string): string {
  if (isSigningSecret(secret)) return secret
  throw invalid('secret', 'is whsec_ and 24 to 64 random bytes in base64; leave it out to get one')
}

/** REQUEST_INVALID about one field. */
export function invalid(field: string, rule: string, cause?: unknown): RegistryError {
  return badRequest(`${field} ${rule}`, { field, cause })
}

function changed<T, U>(
  wanted: T | null | undefined,
  current: U,
  otherwise: U,
  check: (value: T) => U,
): U {
  if (wanted === undefined) return current
  return wanted === null ? otherwise : check(wanted)
}

function checkedUrl(url: string, { client }: ValidationContext): string {
  // As it will be sent: the parser of URLs leaves out what it does not like.
  if (!/^https?:\/\/[\x21-\x7e]+$/.test(url)) {
    throw invalid('url', 'is like https://example.org/hook, in ASCII and without spaces')
  }
  if (url.includes('#')) throw invalid('url', 'has a # in it, and what stands behind is never sent')
  try {
    client.assertUrlAllowed(url)
  } catch (error) {
    if (!(error instanceof OutgoingRefusedError)) throw error
    throw invalid('url', `cannot be used: ${error.message}`, error)
  }
  return url
}

function globsOf(field: string, texts: readonly string[], parse: (text: string) => Glob): Glob[] {
  if (texts.length === 0 || texts.length > GLOBS_MAX) {
    throw invalid(field, `has 1 to ${GLOBS_MAX} patterns, not ${texts.length}`)
  }
  if (texts.join().length > GLOBS_LENGTH_MAX) {
    throw invalid(field, `may have at most ${GLOBS_LENGTH_MAX} characters, all patterns together`)
  }
  return [...new Set(texts)].map((text) => {
    try {
      return parse(text)
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error
      throw invalid(field, `has "${shown(text)}" in it, and ${error.message}`, error)
    }
  })
}

function checkedTypes(texts: readonly string[]): EventType[] {
  if (texts.length === 0) throw invalid('types', 'is empty: leave it out for everything of images')
  const named = texts.map((text) => oneOf('types', FILTERABLE_TYPES, text))
  return FILTERABLE_TYPES.filter((type) => named.includes(type))
}

function checkedAudience(text: string, { url, service }: RegistryIssuer): string {
  const field = 'authentication.oidcAudience'
  if (text === '' || text.length > AUDIENCE_LENGTH_MAX || /\p{C}/u.test(text)) {
    throw invalid(
      field,
      `is what the receiver wants in aud, at most ${AUDIENCE_LENGTH_MAX} characters`,
    )
  }
  if (text === service || text === url) {
    throw invalid(field, 'is this registry itself: say what the receiver is called')
  }
  if (!/^https?:/.test(url)) {
    throw invalid(field, 'needs a registry with an address that receivers know: ROOKERY_PUBLIC_URL')
  }
  return text
}

function checkedHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(headers)
  if (entries.length > CUSTOM_HEADERS_MAX) {
    throw invalid('headers', `may be ${CUSTOM_HEADERS_MAX}, not ${entries.length}`)
  }
  const names = new Set<string>()
  let length = 0
  for (const [name, value] of entries) {
    if (!isCustomHeader(name)) {
      throw invalid(
        'headers',
        `has "${shown(name)}" in it, which is no header's name or is set by the registry`,
      )
    }
    if (names.has(name.toLowerCase())) throw invalid('headers', `has ${shown(name)} twice`)
    if (value.length > CUSTOM_HEADER_BYTES_MAX || !isHeaderValue(value)) {
      throw invalid(
        `headers.${shown(name)}`,
        `has at most ${CUSTOM_HEADER_BYTES_MAX} ASCII characters, no control characters, and no space at either end`,
      )
    }
    names.add(name.toLowerCase())
    length += name.length + value.length
  }
  if (length > HEADERS_LENGTH_MAX) {
    throw invalid('headers', `may have at most ${HEADERS_LENGTH_MAX} characters together`)
  }
  return Object.fromEntries(entries)
}

function isHeaderValue(value: string): boolean {
  return /^[\x20-\x7e]*$/.test(value) && value === value.trim()
}

function checkedDescription(text: string): string {
  if (text.length <= DESCRIPTION_LENGTH_MAX && !/[^\P{Cc}\n]/u.test(text)) return text
  throw invalid(
    'description',
    `has at most ${DESCRIPTION_LENGTH_MAX} characters, and no control characters but line ends`,
  )
}

function checkedAge(seconds: number): number {
  if (Number.isInteger(seconds) && seconds >= 1 && seconds <= AGE_SECONDS_MAX) return seconds
  throw invalid('maxAgeSeconds', `is 1 to ${AGE_SECONDS_MAX}, not ${seconds}`)
}

function oneOf<T extends string>(field: string, known: readonly T[], text: string): T {
  const found = known.find((one) => one === text)
  if (found !== undefined) return found
  throw invalid(field, `has "${shown(text)}" in it; there are ${known.join(', ')}`)
}

function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX)
}
