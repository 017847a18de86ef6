import type { AuthenticationChange, WebhookChange } from '../../webhooks/management/types.ts'
import { AGE_SECONDS_MAX } from '../../webhooks/management/validation.ts'
import { choice, describeDefault, flag, list, repeated, type Values, value } from '../command.ts'
import { durationOption } from '../durations.ts'
import { UsageError } from '../errors.ts'
import { readJson, readSecret, SECRET_NAME } from '../input.ts'

/** The settings of a webhook, at its creation and later. */
export const SETTING_OPTIONS = {
  repository: list('GLOB', "repositories, such as 'builds/**'"),
  tag: describeDefault(list('GLOB', "tags, such as 'v*'"), 'all'),
  type: describeDefault(list('TYPE', 'event types, such as image.tag.updated'), 'all'),
  format: describeDefault(
    choice(
      'FORMAT',
      ['cloudevents', 'docker', 'cdevents', 'cdevents-0.5'],
      'format of the requests',
    ),
    'cloudevents',
  ),
  body: value(
    'JSON',
    'send this object instead of events, with {{digest}} and other values; - for standard input',
  ),
  description: value('TEXT', 'description'),
  maxAge: durationOption('send no events older than this', AGE_SECONDS_MAX),
  coalesceTags: flag('send only the last of several pending updates of a tag'),
  signature: list('SCHEME', 'signatures beside the standard one (v1)', [
    'v1a',
    'x-hub-signature-256',
    'x-signature',
  ]),
  authorizationFile: value('FILE', 'send the Authorization header in FILE; - for standard input'),
  webhookSecretFile: value(
    'FILE',
    'send the secret in FILE as X-Webhook-Secret; - for standard input',
  ),
  oidcAudience: value('TEXT', 'send an identity token of the registry for this audience'),
  header: repeated(
    'HEADER',
    "send this header, such as 'X-Team: web'; its value is - for standard input",
  ),
}

/** The defaults that `--clear` restores, by option. */
const CLEARED = {
  tag: { tags: null },
  type: { types: null },
  format: { format: null },
  body: { body: null },
  header: { headers: null },
  description: { description: null },
  'max-age': { maxAgeSeconds: null },
  'coalesce-tags': { coalesceTags: null },
} as const
const STDIN = '-'
const CLEARED_AUTHENTICATION = {
  signature: { signatures: null },
  authorization: { authorization: null },
  'webhook-secret': { webhookSecret: null },
  'oidc-audience': { oidcAudience: null },
} as const

/** The names that `--clear` takes. */
const CLEARABLE = [...Object.keys(CLEARED), ...Object.keys(CLEARED_AUTHENTICATION)]

/** Reads the options and the files of secrets that they name. Throws UsageError and CommandError. */
export async function readSettings(
  options: Values<typeof SETTING_OPTIONS>,
): Promise<Omit<WebhookChange, 'url' | 'paused'>> {
  const { repository, tag, type, format, signature, header, description } = options
  const body = options.body === undefined ? undefined : await readJson('--body', options.body)
  return {
    repositories: repository,
    tags: tag,
    types: type,
    format,
    body,
    authentication: {
      signatures: signature,
      authorization: await readOptionalSecret(
        options.authorizationFile,
        'the value of an Authorization header',
      ),
      webhookSecret: await readOptionalSecret(options.webhookSecretFile, 'a secret'),
      oidcAudience: options.oidcAudience,
    },
    headers: await readHeaders(header),
    description,
    maxAgeSeconds: options.maxAge,
    coalesceTags: options.coalesceTags ? true : undefined,
  }
}

/** The option of update that restores defaults. */
export const CLEAR_OPTION = {
  clear: list('OPTION', 'restore the default of an option', CLEARABLE),
}

/** Adds to a change the defaults of the cleared options. */
export function withCleared(change: WebhookChange, cleared: readonly string[] = []): WebhookChange {
  const settings = pickNamed(CLEARED, cleared)
  const authentication: Partial<AuthenticationChange> = pickNamed(CLEARED_AUTHENTICATION, cleared)
  return {
    ...change,
    ...settings,
    authentication: { ...change.authentication, ...authentication },
  }
}

function pickNamed<T>(from: Readonly<Record<string, T>>, names: readonly string[]): Partial<T> {
  const parts = Object.entries(from).filter(([name]) => names.includes(name))
  return Object.assign({}, ...parts.map(([, part]) => part))
}

/** Returns the first line of a file, or of standard input for `-`. Throws CommandError. */
export async function readOptionalSecret(
  file: string | undefined,
  what: string,
): Promise<string | undefined> {
  return file === undefined ? undefined : readSecret(file, what)
}

/** Returns the address of a webhook, or for `-` the line of standard input: some have a secret in their path. */
export async function readUrl(text: string): Promise<string> {
  return text === STDIN ? readSecret(STDIN, 'a URL') : text
}

async function readHeaders(
  texts: readonly string[] | undefined,
): Promise<Record<string, string> | undefined> {
  if (texts === undefined) return undefined
  const entries: [name: string, value: string][] = []
  for (const text of texts) {
    const at = text.indexOf(':')
    if (at < 1) throw new UsageError("--header must be like 'NAME: VALUE'")
    const name = text.slice(0, at).trim()
    const value = text.slice(at + 1).trim()
    if (value !== STDIN && SECRET_NAME.test(name)) {
      throw new UsageError(
        `all users of this machine can read arguments: give the value of ${name} on standard input, with --header '${name}: -'`,
      )
    }
    entries.push([name, value === STDIN ? await readSecret(STDIN, `the value of ${name}`) : value])
  }
  const names = entries.map(([name]) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`--header names ${twice} twice`)
  return Object.fromEntries(entries)
}
