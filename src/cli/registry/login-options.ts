import { findDockerLogin } from '../../client/docker-logins.ts'
import { type ImageReference, parseImageReference } from '../../client/image-reference.ts'
import type { Login } from '../../client/login.ts'
import { ConfigError } from '../../config/config-error.ts'
import { readSecretSetting } from '../../config/secret-files.ts'
import { parseDigest } from '../../oci/digest.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { describeDefault, flag, type Option, type Values, value } from '../command.ts'
import { CommandError, UsageError } from '../errors.ts'
import { readSecret, readSecretArgument } from '../input.ts'
import { parseLoginUrl } from './login.ts'

/** The token of commands that speak to a registry. */
export const TOKEN_VARIABLE = 'ROOKERY_TOKEN'

/** The options of every command that speaks to a registry. */
export const LOGIN_OPTIONS = {
  username: login(value('NAME', 'user name; needs --password-stdin')),
  passwordStdin: login(flag('read the password from standard input')),
  tokenFile: login(
    describeDefault(
      value('FILE', 'read a token from FILE; - for standard input'),
      `${TOKEN_VARIABLE}, else the login of docker or oras`,
    ),
  ),
  plainHttp: login(describeDefault(flag('use HTTP without TLS'), 'on loopback only')),
}

export type LoginOptions = Values<typeof LOGIN_OPTIONS>

function login<T>(option: Option<T>): Option<T> {
  return { ...option, group: 'Login:' }
}

/** An argument of commands that read an image. */
export const IMAGE_ARGUMENT = 'HOST/REPOSITORY:TAG'

/** An image of the command line, with the login of its URL, if any. */
export type NamedImage = {
  readonly reference: ImageReference
  readonly login: Login | undefined
}

const STDIN = '-'
const HAS_LOGIN = /^https?:\/\/[^/]*@/

/** Returns an argument, or for `-` the line of standard input: a URL with a password does not go into arguments. */
export async function readReference(text: string): Promise<string> {
  return text === STDIN ? readSecretArgument(text, 'a URL') : text
}

/**
 * Parses the reference of an image, or a URL with user and password. Throws MalformedReferenceError and
 * UsageError, which never repeat the text: it may contain a secret.
 */
export function parseNamedImage(text: string, options: LoginOptions): NamedImage {
  const named = HAS_LOGIN.test(text)
    ? imageOfUrl(text)
    : { reference: parseImageReference(text), login: undefined }
  const { reference } = named
  if (!options.plainHttp) return named
  if (/^https:/.test(text)) throw new UsageError('--plain-http and https:// exclude each other')
  return { ...named, reference: { ...reference, plainHttp: true } }
}

function imageOfUrl(text: string): NamedImage {
  const { host, plainHttp, username, password, repository, reference } = parseLoginUrl(text)
  if (repository === undefined) {
    throw new UsageError(
      'the URL must end with the image: https://USER:PASSWORD@HOST/REPOSITORY:TAG',
    )
  }
  const digest = reference?.includes(':') ? parseDigest(reference) : undefined
  const tag = reference === undefined || digest !== undefined ? undefined : parseTag(reference)
  return {
    reference: { host, plainHttp, repository: parseRepository(repository), tag, digest },
    login: { kind: 'password', username, password },
  }
}

/**
 * Finds the login for the registry of an image: from the options, the URL, ROOKERY_TOKEN, or the logins
 * of docker and oras. Returns undefined when there is none. Throws UsageError, CommandError and
 * UnreadableLoginsError.
 */
export async function findLogin(
  { reference, login }: NamedImage,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
): Promise<Login | undefined> {
  const { username, passwordStdin, tokenFile } = options
  if (passwordStdin !== (username !== undefined)) {
    throw new UsageError('--username and --password-stdin need each other')
  }
  const given = [login, username, tokenFile].filter((one) => one !== undefined)
  if (given.length > 1) {
    throw new UsageError('give one login: a URL with a password, --username, or --token-file')
  }
  if (username !== undefined) {
    const password = await readSecret(STDIN, 'a password')
    return { kind: 'password', username, password }
  }
  if (tokenFile !== undefined) {
    return { kind: 'token', token: checkedToken(await readSecret(tokenFile, 'a token')) }
  }
  if (login !== undefined) return login
  const token = tokenOf(environment)?.trim()
  if (token) return { kind: 'token', token: checkedToken(token) }
  return findDockerLogin(reference.host, reference.repository, environment)
}

function tokenOf(environment: NodeJS.ProcessEnv): string | undefined {
  try {
    return readSecretSetting(environment, TOKEN_VARIABLE)
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause
    throw new CommandError(cause.message, { cause })
  }
}

function checkedToken(text: string): string {
  const token = text.trim()
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new CommandError('the token has characters that are not allowed in a token')
}
