import { parseDigest } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { quoted } from '../../unikernel/run-line.ts'
import { UsageError } from '../errors.ts'

/** A login with a password at a host. */
export type HostLogin = {
  /** With the port, when it is not the default. */
  readonly host: string
  /** HTTP without TLS, for which some clients need an option. */
  readonly plainHttp: boolean
  readonly username: string
  readonly password: string
}

/** A login, and the image of its URL, if any. */
export type LoginUrl = HostLogin & {
  readonly repository?: string
  /** A tag or a digest. */
  readonly reference?: string
}

const EXAMPLE = 'https://user:password@registry.example.org/builds/www:v1'
const URL_LENGTH_MAX = 64 * 1024
// RFC 7617, section 2: neither may hold control characters.
const CONTROL = /\p{Cc}/u

/**
 * Parses `https://user:password@host[:port][/repository[:tag]]`. Throws UsageError, whose message never
 * repeats the URL: it contains a secret.
 */
export function parseLoginUrl(text: string): LoginUrl {
  // The parser skips tabs and line breaks, and reads a backslash as a slash.
  if (text.length > URL_LENGTH_MAX || CONTROL.test(text) || /[?#\\]/.test(text)) throw invalidUrl()
  if (!URL.canParse(text)) throw invalidUrl()
  const url = new URL(text)
  if (!['http:', 'https:'].includes(url.protocol)) throw invalidUrl()
  const [username, password] = [decoded(url.username), decoded(url.password)]
  if (username === '' || password === '') {
    throw new UsageError(`user or password is missing in the URL: it must be like ${EXAMPLE}`)
  }
  // In a header, the first colon ends the user name.
  if (CONTROL.test(username + password) || username.includes(':')) {
    throw new UsageError('user and password must have no control characters, and the user no colon')
  }
  return {
    host: url.host,
    plainHttp: url.protocol === 'http:',
    username,
    password,
    ...imageOf(decoded(url.pathname)),
  }
}

/** Returns a URL with user and password. */
export function loginUrl(base: string, username: string, password: string): string {
  const url = new URL(base)
  const user = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`
  return `${url.protocol}//${user}@${url.host}`
}

/** Returns lines for a shell that log in with oras, docker and curl. */
export function loginLines({ host, plainHttp, username, password }: HostLogin) {
  const [user, secret, registry] = [username, password, host].map(quoted)
  const base = quoted(`${plainHttp ? 'http' : 'https'}://${host}/v2/`)
  // By standard input: everybody on the machine can read arguments.
  const piped = `printf '%s' ${secret} |`
  return {
    curl: `printf '%s' ${quoted(curlConfig(username, password))} | curl -sS --fail-with-body -K - ${base}`,
    oras: `${piped} oras login${plainHttp ? ' --plain-http' : ''} -u ${user} --password-stdin ${registry}`,
    docker: `${piped} docker login -u ${user} --password-stdin ${registry}`,
  }
}

/** Returns the login as a line of curl's configuration. */
function curlConfig(username: string, password: string): string {
  return `user = "${`${username}:${password}`.replace(/[\\"]/g, '\\$&')}"`
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
    throw new UsageError(`the path of the URL is no image: ${cause.message}`, { cause })
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
    `the URL must be like ${EXAMPLE}; in user and password, write / ? # % and \\ as %2F %3F %23 %25 %5C`,
    { cause },
  )
}
