import { isObject } from '../oci/descriptor.ts'
import { RegistryResponseError } from './errors.ts'
import { findExpiry, type Login } from './login.ts'
import { findRetryAfter } from './retry.ts'
import { type HttpResponse, readBody } from './transport.ts'

const ERROR_BYTES_MAX = 64 * 1024
const SHOWN_CHARACTERS_MAX = 600

export type RequestContext = {
  readonly host: string
  /** What was asked for, such as `the manifest v1`. */
  readonly what: string
  readonly credential: Login | undefined
}

/** What an answer of 400 or more means, in one line that says what to do. Reads its body. */
export async function httpErrorOf(
  answer: HttpResponse,
  asked: RequestContext,
): Promise<RegistryResponseError> {
  const { status } = answer
  const said = await findSaid(answer)
  const now = Date.now()
  const retryAfterSeconds = findRetryAfter(answer.header('retry-after'), now)
  const reason = said?.text ?? (status === 401 ? 'authentication required' : `status ${status}`)
  const message = `${asked.host} refused ${asked.what}: ${reason}`
  const hint = hintFor(status, said?.code, asked, retryAfterSeconds, now / 1000)
  return new RegistryResponseError(hint === undefined ? message : `${message}; ${hint}`, {
    status,
    code: said?.code,
    retryAfterSeconds,
  })
}

type Said = { readonly code: string | undefined; readonly text: string }

/** Distribution spec, "Error Codes"; token endpoints answer as OAuth 2 does (RFC 6749, section 5.2). */
async function findSaid(answer: HttpResponse): Promise<Said | undefined> {
  try {
    const body: unknown = JSON.parse((await readBody(answer, ERROR_BYTES_MAX)).toString())
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
    // A body that is no such JSON says nothing; the status still does.
    return undefined
  }
}

/** What others wrote, fit for a terminal. */
function oneLine(text: string): string {
  const plain = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ').trim()
  return plain.length > SHOWN_CHARACTERS_MAX ? `${plain.slice(0, SHOWN_CHARACTERS_MAX)}…` : plain
}

function hintFor(
  status: number,
  code: string | undefined,
  { host, credential }: RequestContext,
  retryAfterSeconds: number | undefined,
  nowSeconds: number,
): string | undefined {
  if (status === 401) return hintForLogin(host, credential, nowSeconds)
  if (status === 403) return 'the login is known, but may not do this there'
  if (status === 413) return 'it is larger than the registry, or a proxy before it, takes'
  if (status === 429 && retryAfterSeconds !== undefined) {
    return `it asks to wait ${retryAfterSeconds} s`
  }
  if (status === 404 && code === undefined) return `is ${host} a registry?`
  return undefined
}

function hintForLogin(host: string, credential: Login | undefined, nowSeconds: number): string {
  if (credential === undefined) {
    return `log in: --username with --password-stdin, --token-file, ROOKERY_TOKEN, or oras login ${host}`
  }
  if (credential.kind === 'password') {
    return `the user ${oneLine(credential.username)} or its password is wrong, expired or revoked`
  }
  const expiry = findExpiry(credential.token)
  if (expiry !== undefined && expiry <= nowSeconds) {
    return `the token expired at ${new Date(expiry * 1000).toISOString()}: make another`
  }
  return 'the token is expired, revoked, for something else or of another registry: make another'
}
