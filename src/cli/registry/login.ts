import { parseDigest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { UsageError } from '../command.ts'

/** What a client needs to know to log in. */
export type Login = {
  /** With the port, when it is not the usual one. */
  readonly host: string
  /** No TLS: some clients must be told. */
  readonly plainHttp: boolean
  readonly username: string
  readonly password: string
}

/** A login, and the image that the URL named besides, if any. */
export type LoginUrl = Login & {
  readonly repository?: string
  /** A tag or a digest. */
  readonly reference?: string
}

const RIGHT = 'https://user:password@registry.example.org/builds/www:v1'
const URL_LENGTH_MAX = 64 * 1024
// RFC 7617, section 2: neither may hold control characters.
const CONTROL = /\p{Cc}/u

/**
 * Takes `https://user:password@host[:port][/repository[:tag]]` apart. Throws UsageError, whose message
 * never repeats the URL: it has a secret in it.
 */
export function parseLoginUrl(text: string): LoginUrl {
  // The parser would pass over tabs and line breaks, and take a backslash for a slash.
  if (text.length > URL_LENGTH_MAX || CONTROL.test(text) || /[?#\\]/.test(text)) throw invalidUrl()
  if (!URL.canParse(text)) throw invalidUrl()
  const url = new URL(text)
  if (!['http:', 'https:'].includes(url.protocol)) throw invalidUrl()
  const [username, password] = [decoded(url.username), decoded(url.password)]
  if (username === '' || password === '') {
    throw new UsageError(`the URL has no user and password in it: one is like ${RIGHT}`)
  }
  // The first colon ends the user in a header, whatever was meant.
  if (CONTROL.test(username + password) || username.includes(':')) {
    throw new UsageError('no client can send this user or password: control characters, or a colon')
  }
  return {
    host: url.host,
    plainHttp: url.protocol === 'http:',
    username,
    password,
    ...imageOf(decoded(url.pathname)),
  }
}

/** The URL that carries user and password, to hand over. */
export function loginUrl(base: string, username: string, password: string): string {
  const url = new URL(base)
  const user = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`
  return `${url.protocol}//${user}@${url.host}`
}

/** How to log in with oras, docker and curl, in lines for a shell. */
export function loginLines({ host, plainHttp, username, password }: Login) {
  const [user, secret, place] = [username, password, host].map(quoted)
  const base = quoted(`${plainHttp ? 'http' : 'https'}://${host}/v2/`)
  // Not as an argument: those are seen by everybody on the machine.
  const piped = `printf '%s' ${secret} |`
  return {
    curl: `curl -fsS -u ${quoted(`${username}:${password}`)} ${base}`,
    oras: `${piped} oras login${plainHttp ? ' --plain-http' : ''} -u ${user} --password-stdin ${place}`,
    docker: `${piped} docker login -u ${user} --password-stdin ${place}`,
  }
}

/** A word of a shell's command line, whatever is in it. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

function imageOf(path: string): Pick<LoginUrl, 'repository' | 'reference'> {
  const name = path.replace(/^\//, '').replace(/\/$/, '')
  if (name === '') return {}
  try {
    const [, repository = '', tag, digest] = /^([^:@]+)(?::([^@]*))?(?:@(.*))?$/.exec(name) ?? []
    const reference = digest === undefined ? tag : parseDigest(digest)
    if (tag !== undefined) parseTag(tag)
    return {
      repository: parseRepository(repository),
      ...(reference === undefined ? {} : { reference }),
    }
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause
    throw new UsageError(`behind the host stands no image: ${cause.message}`, { cause })
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (cause) {
    throw invalidUrl(cause)
  }
}

function invalidUrl(cause?: unknown): UsageError {
  return new UsageError(
    `the URL must be like ${RIGHT}; in user and password, / ? # % and \\ are written as %2F %3F %23 %25 %5C`,
    { cause },
  )
}
