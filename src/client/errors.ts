import { errnoOf } from '../async/errno.ts'
/** A registry, or what stands before it, answered that it will not. The message is one line. */
export class RegistryResponseError extends Error {
  override readonly name = 'RegistryResponseError'
  readonly status: number
  /** Of the distribution spec's error codes, when the answer had one. */
  readonly code: string | undefined
  /** What it asked to wait for, in seconds. */
  readonly retryAfterSeconds: number | undefined

  constructor(message: string, { status, code, retryAfterSeconds }: Refusal) {
    super(message)
    this.status = status
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

type Refusal = {
  readonly status: number
  readonly code?: string | undefined
  readonly retryAfterSeconds?: number | undefined
}

/** There was no answer, or none that a registry gives. The message is one line that says what to do. */
export class RegistryUnreachableError extends Error {
  override readonly name = 'RegistryUnreachableError'
  /** True when the same may succeed a moment later. */
  readonly transient: boolean

  constructor(message: string, passing: boolean, cause?: unknown) {
    super(message, { cause })
    this.transient = passing
  }
}

/** A file cannot be read, or is another than it was when the push began. One line. */
export class FileChangedError extends Error {
  override readonly name = 'FileChangedError'
}

const NOT_TLS = ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG']
const NO_NAME = ['ENOTFOUND', 'EAI_NONAME', 'EAI_NODATA']
const CERTIFICATE = /CERT|SELF_SIGNED|ISSUER|ALTNAME/
const TOOK_TOO_LONG = /TIMEOUT|ETIMEDOUT/

/** What it means that a request brought no answer. `answered`: an earlier one did. */
export function unreachableError(
  url: URL,
  error: unknown,
  answered: boolean,
): RegistryUnreachableError {
  const code = codeOf(error)
  const { host, hostname, protocol } = url
  const fail = (message: string, passing: boolean) =>
    new RegistryUnreachableError(message, passing, error)
  if (NO_NAME.includes(code)) return fail(`there is no host ${hostname}: check its name`, false)
  if (code === 'EAI_AGAIN') {
    return fail(`no name server says where ${hostname} is: check the network`, true)
  }
  if (code === 'ECONNREFUSED') {
    return fail(`nothing listens at ${host}: check host and port`, answered)
  }
  if (protocol === 'https:' && NOT_TLS.includes(code)) {
    return fail(`${host} does not speak TLS: if that is right, give --plain-http`, false)
  }
  if (protocol === 'http:' && error instanceof Error && error.name === 'HTTPParserError') {
    return fail(`${host} does not speak plain HTTP: leave out --plain-http`, false)
  }
  if (CERTIFICATE.test(code)) {
    return fail(
      `the certificate of ${host} is not believed (${reasonOf(error)}): NODE_EXTRA_CA_CERTS names a file of more authorities`,
      false,
    )
  }
  if (TOOK_TOO_LONG.test(code)) return fail(`${host} did not answer in time`, true)
  return fail(`the connection to ${host} broke: ${reasonOf(error)}`, true)
}

/** Errors wrap one another; of several addresses that failed, the first tells. */
function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  if (!(error instanceof Error)) return ''
  if (error.name === 'TimeoutError') return 'TIMEOUT'
  const code = errnoOf(error) ?? ''
  if (code === '' && error.cause !== undefined) return codeOf(error.cause)
  return code
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return reasonOf(error.errors[0])
  if (!(error instanceof Error)) return String(error)
  return error.message.replace(/\s+/g, ' ').trim() || error.name
}
