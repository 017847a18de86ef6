import { parseRetryAfter } from '../async/retry-after.ts'
import { isObject } from '../oci/descriptor.ts'
import { RegistryResponseError } from './errors.ts'
import { findAccess, findExpiry, type Login } from './login.ts'
import { type HttpResponse, readBody } from './transport.ts'

const ERROR_BYTES_MAX = 64 * 1024
const SHOWN_CHARACTERS_MAX = 600

export type RequestContext = {
  readonly host: string
  /** The subject of the request, such as `the manifest v1`. */
  readonly subject: string
  readonly login: Login | undefined
}

/** Explains a response of status 400 or more, in one line that says what to do. Reads its body. */
export async function httpErrorOf(
  response: HttpResponse,
  request: RequestContext,
): Promise<RegistryResponseError> {
  const { status } = response
  const problem = await findProblem(response)
  const now = new Date()
  const retryAfterSeconds = parseRetryAfter(response.header('retry-after'), now)
  const reason = problem?.text ?? (status === 401 ? 'authentication required' : `status ${status}`)
  const message = `${request.host} refused ${request.subject}: ${reason}`
  const hint =
    findTlsHint(response, problem) ??
    hintFor(status, problem, request, retryAfterSeconds, now.getTime() / 1000)
  return new RegistryResponseError(hint === undefined ? message : `${message}; ${hint}`, {
    status,
    code: problem?.code,
    retryAfterSeconds,
  })
}

type Problem = { readonly code: string | undefined; readonly text: string }

/** Distribution spec, "Error Codes"; token endpoints answer as OAuth 2 does (RFC 6749, section 5.2). */
async function findProblem(response: HttpResponse): Promise<Problem | undefined> {
  try {
    const body: unknown = JSON.parse((await readBody(response, ERROR_BYTES_MAX)).toString())
    if (!isObject(body)) return undefined
    const { errors, error, error_description: description } = body
    const [first]: unknown[] = Array.isArray(errors) ? errors : []
    if (isObject(first)) {
      const code = typeof first.code === 'string' ? oneLine(first.code) : undefined
      const message = typeof first.message === 'string' ? oneLine(first.message) : ''
      return { code, text: [message, code && `(${code})`].filter(Boolean).join(' ') }
    }
    const text = [description, error, body.message].find((one) => typeof one === 'string')
    return text === undefined ? undefined : { code: undefined, text: oneLine(text) }
  } catch {
    // Without such a body, the status alone is reported.
    return undefined
  }
}

/** Foreign text on one line, without control characters for the terminal. */
function oneLine(text: string): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ').trim()
  return plain.length > SHOWN_CHARACTERS_MAX ? `${plain.slice(0, SHOWN_CHARACTERS_MAX)}…` : plain
}

/** A proxy with TLS answers plain HTTP with 400, and with no body of a registry. */
function findTlsHint(
  { status, url }: HttpResponse,
  problem: Problem | undefined,
): string | undefined {
  if (status !== 400 || problem !== undefined || url.protocol !== 'http:') return undefined
  return `${url.host} was asked without TLS: if it speaks TLS, write https://${url.host}`
}

function hintFor(
  status: number,
  problem: Problem | undefined,
  { host, login }: RequestContext,
  retryAfterSeconds: number | undefined,
  nowSeconds: number,
): string | undefined {
  if (status === 401) return hintForLogin(host, login, nowSeconds)
  if (status === 403 && !isExplained(problem)) return 'the login is valid, but may not do this'
  if (status === 413) return 'it is larger than the registry, or a proxy before it, accepts'
  if (status === 429 && retryAfterSeconds !== undefined) {
    return `it asks for a wait of ${retryAfterSeconds} s`
  }
  if (status === 404 && problem?.code === undefined) return `is ${host} a registry?`
  return undefined
}

/** True when the registry says more than the code DENIED does, such as which tag is immutable. */
function isExplained(problem: Problem | undefined): boolean {
  return problem?.code === 'DENIED' && !problem.text.startsWith('requested access to')
}

function hintForLogin(host: string, login: Login | undefined, nowSeconds: number): string {
  if (login === undefined) {
    return `log in: --username with --password-stdin, --token-file, ROOKERY_TOKEN, or oras login ${host}`
  }
  if (login.kind === 'password') {
    return `the user ${oneLine(login.username)} or its password is wrong, expired or revoked`
  }
  if (login.kind === 'identity-token') return `log in again: docker login ${host}`
  const expiry = findExpiry(login.token)
  if (expiry !== undefined && expiry <= nowSeconds) {
    return `the token expired at ${new Date(expiry * 1000).toISOString()}: create another one`
  }
  const access = findAccess(login.token)
  return access === undefined
    ? 'the token is expired, revoked, or for another scope or registry: create another one'
    : `the token is for ${oneLine(access)}: create another one for anything else, or when it was revoked`
}
