import type { AuthenticationChange, WebhookChange } from '../../webhooks/management/types.ts'
import { AGE_SECONDS_MAX } from '../../webhooks/management/validation.ts'
import { UsageError } from '../command.ts'
import { parseDuration } from '../durations.ts'
import { secretFrom } from '../registry/registry-login.ts'
import { listOf } from '../server/operator.ts'

/** What a webhook can be told to be, when it is made and later. */
export const SETTING_OPTIONS = {
  repository: { type: 'string', multiple: true },
  tag: { type: 'string', multiple: true },
  type: { type: 'string', multiple: true },
  format: { type: 'string' },
  signature: { type: 'string', multiple: true },
  'authorization-file': { type: 'string' },
  'webhook-secret-file': { type: 'string' },
  'oidc-audience': { type: 'string' },
  header: { type: 'string', multiple: true },
  description: { type: 'string' },
  'max-age': { type: 'string' },
  'coalesce-tags': { type: 'boolean' },
} as const

export const SETTING_USAGE =
  '[--tag GLOB...] [--type TYPE...] [--format cloudevents|docker] ' +
  '[--signature v1a|x-hub-signature-256|x-signature...] [--authorization-file FILE|-] ' +
  "[--webhook-secret-file FILE|-] [--oidc-audience TEXT] [--header 'NAME: VALUE'...] " +
  '[--description TEXT] [--max-age 1h] [--coalesce-tags]'

type Texts = readonly string[] | undefined

export type SettingOptions = {
  readonly repository?: Texts
  readonly tag?: Texts
  readonly type?: Texts
  readonly format?: string | undefined
  readonly signature?: Texts
  readonly 'authorization-file'?: string | undefined
  readonly 'webhook-secret-file'?: string | undefined
  readonly 'oidc-audience'?: string | undefined
  readonly header?: Texts
  readonly description?: string | undefined
  readonly 'max-age'?: string | undefined
  readonly 'coalesce-tags'?: boolean | undefined
}

/** What `--clear` takes back, by the options that set it. */
const CLEARED = {
  tag: { tags: null },
  type: { types: null },
  format: { format: null },
  header: { headers: null },
  description: { description: null },
  'max-age': { maxAgeSeconds: null },
  'coalesce-tags': { coalesceTags: null },
} as const
const CLEARED_AUTHENTICATION = {
  signature: { signatures: null },
  authorization: { authorization: null },
  'webhook-secret': { webhookSecret: null },
  'oidc-audience': { oidcAudience: null },
} as const

/** What `--clear` may name. */
export const CLEARABLE = [...Object.keys(CLEARED), ...Object.keys(CLEARED_AUTHENTICATION)]

/** Reads the options, and the files of secrets that they name. Throws UsageError and CommandError. */
export async function readSettings(
  options: SettingOptions,
): Promise<Omit<WebhookChange, 'url' | 'paused'>> {
  const maxAge = options['max-age']
  return {
    repositories: listOf(options.repository),
    tags: listOf(options.tag),
    types: listOf(options.type),
    format: options.format,
    authentication: {
      signatures: listOf(options.signature),
      authorization: await secretOf(options['authorization-file'], 'an Authorization header'),
      webhookSecret: await secretOf(options['webhook-secret-file'], 'a secret'),
      oidcAudience: options['oidc-audience'],
    },
    headers: headersOf(options.header),
    description: options.description,
    maxAgeSeconds:
      maxAge === undefined ? undefined : parseDuration('max-age', maxAge, AGE_SECONDS_MAX),
    coalesceTags: options['coalesce-tags'],
  }
}

/** A change that also takes back what `--clear` names. Throws UsageError. */
export function withCleared(change: WebhookChange, names: Texts): WebhookChange {
  const cleared = listOf(names) ?? []
  const unknown = cleared.find((name) => !CLEARABLE.includes(name))
  if (unknown !== undefined) {
    throw new UsageError(`--clear takes ${CLEARABLE.join(', ')}, not "${unknown}"`)
  }
  const settings = chosen(CLEARED, cleared)
  const authentication: Partial<AuthenticationChange> = chosen(CLEARED_AUTHENTICATION, cleared)
  return {
    ...change,
    ...settings,
    authentication: { ...change.authentication, ...authentication },
  }
}

function chosen<T>(from: Readonly<Record<string, T>>, names: readonly string[]): Partial<T> {
  const parts = Object.entries(from).filter(([name]) => names.includes(name))
  return Object.assign({}, ...parts.map(([, part]) => part))
}

/** The first line of a file, or of standard input. */
export async function secretOf(
  file: string | undefined,
  what: string,
): Promise<string | undefined> {
  return file === undefined ? undefined : secretFrom(file, what)
}

function headersOf(texts: Texts): Record<string, string> | undefined {
  if (texts === undefined) return undefined
  const entries = texts.map((text) => {
    const at = text.indexOf(':')
    if (at < 1) throw new UsageError(`--header is like 'NAME: VALUE', not "${text}"`)
    return [text.slice(0, at).trim(), text.slice(at + 1).trim()] as const
  })
  const names = entries.map(([name]) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`--header names ${twice} twice`)
  return Object.fromEntries(entries)
}
