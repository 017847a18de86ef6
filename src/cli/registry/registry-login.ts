import { readFile } from 'node:fs/promises'
import { findDockerLogin } from '../../client/docker-logins.ts'
import { type ImageReference, parseImageReference } from '../../client/image-reference.ts'
import type { Login } from '../../client/login.ts'
import { parseDigest } from '../../oci/digest.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { CommandError, UsageError } from '../command.ts'
import { visible } from '../printing.ts'
import { parseLoginUrl } from './login.ts'

/** Options of every command that speaks to a registry. */
export const LOGIN_OPTIONS = {
  username: { type: 'string' },
  'password-stdin': { type: 'boolean', default: false },
  'token-file': { type: 'string' },
  'plain-http': { type: 'boolean', default: false },
} as const
export const LOGIN_USAGE = '[--username NAME --password-stdin | --token-file FILE|-] [--plain-http]'

/** The token of commands that speak to a registry. */
export const TOKEN_VARIABLE = 'ROOKERY_TOKEN'

export type LoginOptions = {
  readonly username?: string | undefined
  readonly 'password-stdin': boolean
  readonly 'token-file'?: string | undefined
  readonly 'plain-http': boolean
}

/** An image that was named on the command line, with the login that stood in its URL, if any. */
export type NamedImage = {
  readonly reference: ImageReference
  readonly login: Login | undefined
}

const STDIN = '-'
const SECRET_CHARACTERS_MAX = 64 * 1024
const HAS_LOGIN = /^https?:\/\/[^/]*@/

/**
 * An image by its reference, or by a URL with user and password in it. Throws MalformedReferenceError and
 * UsageError, which never repeat the text: there may be a secret in it.
 */
export function parseNamedImage(text: string, options: LoginOptions): NamedImage {
  const named = HAS_LOGIN.test(text)
    ? imageOfUrl(text)
    : { reference: parseImageReference(text), login: undefined }
  const { reference } = named
  if (!options['plain-http']) return named
  if (/^https:/.test(text)) throw new UsageError('--plain-http contradicts https://')
  return { ...named, reference: { ...reference, plainHttp: true } }
}

function imageOfUrl(text: string): NamedImage {
  const { host, plainHttp, username, password, repository, reference } = parseLoginUrl(text)
  if (repository === undefined) {
    throw new UsageError('behind the host of the URL must stand the image: REPOSITORY:TAG')
  }
  const digest = reference?.includes(':') ? parseDigest(reference) : undefined
  const tag = reference === undefined || digest !== undefined ? undefined : parseTag(reference)
  return {
    reference: { host, plainHttp, repository: parseRepository(repository), tag, digest },
    login: { kind: 'password', username, password },
  }
}

/**
 * How to log in to the registry of an image: by the options, by the URL, by ROOKERY_TOKEN, or by what
 * `docker login` left. Undefined: without a login. Throws UsageError, CommandError, UnreadableLoginsError.
 */
export async function findLogin(
  { reference, login }: NamedImage,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
): Promise<Login | undefined> {
  const { username, 'password-stdin': passwordStdin, 'token-file': tokenFile } = options
  if (passwordStdin !== (username !== undefined)) {
    throw new UsageError('--username and --password-stdin stand together')
  }
  const given = [login, username, tokenFile].filter((one) => one !== undefined)
  if (given.length > 1) {
    throw new UsageError('one login is enough: a URL with a password, --username, or --token-file')
  }
  if (username !== undefined) {
    const password = await secretFrom(STDIN, 'a password')
    return { kind: 'password', username, password }
  }
  if (tokenFile !== undefined) {
    return { kind: 'token', token: checkedToken(await secretFrom(tokenFile, 'a token')) }
  }
  if (login !== undefined) return login
  const token = environment[TOKEN_VARIABLE]?.trim()
  if (token) return { kind: 'token', token: checkedToken(token) }
  return findDockerLogin(reference.host, reference.repository, environment)
}

/** A secret out of a file, or with `-` out of standard input, without the line's end. Throws CommandError. */
export async function secretFrom(place: string, what: string): Promise<string> {
  const text = place === STDIN ? await readStdin(what) : await readSecret(place, what)
  const secret = text.replace(/\r?\n$/, '')
  const where = place === STDIN ? 'standard input' : visible(place)
  if (secret === '') throw new CommandError(`${where} has nothing in it, and should have ${what}`)
  if (secret.length > SECRET_CHARACTERS_MAX || /\p{Cc}/u.test(secret)) {
    throw new CommandError(`${where} has more in it than ${what} on one line`)
  }
  return secret
}

function checkedToken(text: string): string {
  const token = text.trim()
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new CommandError('the token has characters in it that no token has')
}

async function readSecret(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CommandError(`${what} cannot be read from ${visible(path)}: ${reason}`, { cause })
  }
}

async function readStdin(what: string): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin) {
    text += String(chunk)
    if (text.length > SECRET_CHARACTERS_MAX) {
      throw new CommandError(`standard input is too long for ${what}`)
    }
  }
  return text
}
