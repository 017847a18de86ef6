import { errnoOf } from '../async/errno.ts'

/** An error response of a registry, or of a proxy before it. The message is one line. */
export class RegistryResponseError extends Error {
  override readonly name = 'RegistryResponseError'
  readonly status: number
  /** One of the distribution spec's error codes, when the response has one. */
  readonly code: string | undefined
  /** From its Retry-After header. */
  readonly retryAfterSeconds: number | undefined

  constructor(message: string, { status, code, retryAfterSeconds }: ErrorResponse) {
    super(message)
    this.status = status
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

type ErrorResponse = {
  readonly status: number
  readonly code?: string | undefined
  readonly retryAfterSeconds?: number | undefined
}

/** There was no response. The message is one line that says what to do. */
export class RegistryUnreachableError extends Error {
  override readonly name = 'RegistryUnreachableError'
  /** True when the same request may succeed a moment later. */
  readonly transient: boolean

  constructor(message: string, transient: boolean, cause?: unknown) {
    super(message, { cause })
    this.transient = transient
  }
}

/** A file that became unreadable, or changed, during the push. The message is one line. */
export class FileChangedError extends Error {
  override readonly name = 'FileChangedError'
}

const NOT_TLS = ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG']
const UNKNOWN_HOST = ['ENOTFOUND', 'EAI_NONAME', 'EAI_NODATA']
const CERTIFICATE = /CERT|SELF_SIGNED|ISSUER|ALTNAME/
const TIMEOUT = /TIMEOUT|ETIMEDOUT/

/** Explains why a request got no response. `answered`: the host answered an earlier request. */
export function unreachableError(
  url: URL,
  error: unknown,
  answered: boolean,
): RegistryUnreachableError {
  const code = codeOf(error)
  const { host, hostname, protocol } = url
  const fail = (message: string, transient: boolean) =>
    new RegistryUnreachableError(message, transient, error)
  if (UNKNOWN_HOST.includes(code)) return fail(`host ${hostname} not found: check its name`, false)
  if (code === 'EAI_AGAIN') {
    return fail(`name servers did not answer for ${hostname}: check the network`, true)
  }
  if (code === 'ECONNREFUSED') {
    return fail(`nothing listens at ${host}: check host and port`, answered)
  }
  if (protocol === 'https:' && NOT_TLS.includes(code)) {
    return fail(`${host} does not speak TLS: if that is expected, use --plain-http`, false)
  }
  // By name: undici sets no code here, and its classes would load it for commands that send nothing.
  if (protocol === 'http:' && error instanceof Error && error.name === 'HTTPParserError') {
    return fail(
      `${host} does not speak plain HTTP: write https://${host} for a registry on this machine, or omit --plain-http`,
      false,
    )
  }
  if (CERTIFICATE.test(code)) {
    return fail(
      `the certificate of ${host} is not trusted (${reasonOf(error)}): set NODE_EXTRA_CA_CERTS to a file with its certificate authority`,
      false,
    )
  }
  if (TIMEOUT.test(code)) return fail(`${host} did not answer in time`, true)
  return fail(`the connection to ${host} broke: ${reasonOf(error)}`, true)
}

/** The code of the innermost error; for several addresses that failed, that of the first. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  if (!(error instanceof Error)) return ''
  if (error instanceof DOMException && error.code === DOMException.TIMEOUT_ERR) return 'TIMEOUT'
  const code = errnoOf(error) ?? ''
  if (code === '' && error.cause !== undefined) return codeOf(error.cause)
  return code
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return reasonOf(error.errors[0])
  if (!(error instanceof Error)) return String(error)
  return error.message.replace(/\s+/g, ' ').trim() || error.name
}
