/** The error codes of the distribution spec ("Error Codes"): the status and the default message of each. */
const SPEC_ERRORS = {
  BLOB_UNKNOWN: [404, 'blob unknown to registry'],
  BLOB_UPLOAD_INVALID: [400, 'blob upload invalid'],
  BLOB_UPLOAD_UNKNOWN: [404, 'blob upload unknown to registry'],
  DIGEST_INVALID: [400, 'digest is malformed, unsupported, or does not match the content'],
  MANIFEST_BLOB_UNKNOWN: [400, 'manifest references a manifest or blob unknown to registry'],
  MANIFEST_INVALID: [400, 'manifest invalid'],
  MANIFEST_UNKNOWN: [404, 'manifest unknown to registry'],
  NAME_INVALID: [400, 'invalid repository name'],
  NAME_UNKNOWN: [404, 'repository name not known to registry'],
  SIZE_INVALID: [400, 'provided length did not match content length'],
  UNAUTHORIZED: [401, 'authentication required'],
  DENIED: [403, 'requested access to the resource is denied'],
  UNSUPPORTED: [405, 'the operation is unsupported'],
  TOOMANYREQUESTS: [429, 'too many requests'],
} as const satisfies ErrorTable

/** Codes that the spec does not list: its statuses need some, and clients already know the others. */
const OWN_ERRORS = {
  TAG_INVALID: [400, 'tag is malformed'],
  PAGINATION_NUMBER_INVALID: [400, 'invalid number of results requested'],
  QUERY_INVALID: [400, 'invalid query parameter'],
  REQUEST_INVALID: [400, 'malformed request'],
  PATH_UNKNOWN: [
    404,
    'path unknown to registry: registries are below /v2/, and the API below /api/v1/',
  ],
  NOT_FOUND: [404, 'not found'],
  REQUEST_TIMEOUT: [408, 'the request did not arrive in time'],
  CONFLICT: [409, 'the request conflicts with the current state'],
  GONE: [410, 'no longer available'],
  PRECONDITION_FAILED: [412, 'the precondition of the request does not hold'],
  PAYLOAD_TOO_LARGE: [413, 'request body is too large'],
  URI_TOO_LONG: [414, 'too many tags in one request'],
  RANGE_INVALID: [416, 'requested range is not satisfiable'],
  UNKNOWN: [500, 'unknown error'],
  UNAVAILABLE: [503, 'the registry cannot serve this at the moment, try again'],
} as const satisfies ErrorTable

type ErrorTable = Record<string, readonly [status: number, message: string]>

/** Every error code of the registry: the status of its response, and its default message. */
export const ERRORS = { ...SPEC_ERRORS, ...OWN_ERRORS } as const

export type ErrorCode = keyof typeof ERRORS

/** Data of an error from which HTTP makes headers, or the rest of the message. */
export type ErrorData = {
  /** How long a client should wait before it tries again. */
  readonly retryAfterSeconds?: number
  /** Bytes of the upload that the registry has. */
  readonly received?: number
  /** Bytes of the blob whose range was requested. */
  readonly blobSize?: number
  /** The methods that the path supports. */
  readonly allowedMethods?: readonly string[]
  readonly challenge?: Challenge
  /** True for a login that is wrong, or has ended: the message then says where to log in again. */
  readonly loginEnded?: true
}

/** How a client may authenticate (RFC 9110, section 11.6.1). */
export type Challenge =
  | { readonly scheme: 'Basic'; readonly realm: string }
  | {
      readonly scheme: 'Bearer'
      /** The URL that issues tokens. */
      readonly realm: string
      readonly service: string
      readonly scope: string | undefined
      readonly error: BearerErrorCode | undefined
      /** The reason for people, for clients that do not show a body. Only with `error`. */
      readonly description: string | undefined
    }

/** Why the presented credential was refused: RFC 6750, section 3.1. */
export type BearerErrorCode = 'invalid_token' | 'insufficient_scope'

export type RegistryErrorOptions = ErrorData & {
  /** One sentence that says what was wrong and what is right, in place of the code's default. */
  readonly message?: string
  readonly cause?: unknown
  /** False for a status of 5xx that is no fault of the registry: it is not logged as one. */
  readonly isFault?: boolean
}

/** A request that the registry refuses: a code of the table, and data for the client. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError'
  readonly code: ErrorCode
  readonly detail: unknown
  readonly data: ErrorData
  /** True when an operator should read of it. */
  readonly isFault: boolean

  constructor(code: ErrorCode, detail?: unknown, options: RegistryErrorOptions = {}) {
    const { message, cause, isFault = true, ...data } = options
    super(message ?? ERRORS[code][1], { cause })
    this.code = code
    this.detail = detail
    this.data = data
    this.isFault = isFault && this.status >= 500
  }

  get status(): number {
    return ERRORS[this.code][0]
  }

  /** The body of the response: distribution spec, "Error Codes". */
  toJSON(): { errors: [{ code: ErrorCode; message: string; detail?: unknown }] } {
    return {
      errors: [
        {
          code: this.code,
          message: this.message,
          ...(this.detail === undefined ? {} : { detail: this.detail }),
        },
      ],
    }
  }
}

type BadRequestOptions = {
  /** The field that is wrong: the detail names it. */
  readonly field?: string
  readonly detail?: object
  readonly cause?: unknown
}

/** A request that is malformed or breaks a rule: 400. */
export function badRequest(
  message: string,
  { field, detail, cause }: BadRequestOptions = {},
): RegistryError {
  const named = field === undefined ? detail : { field, ...detail }
  return new RegistryError('REQUEST_INVALID', named, { message, cause })
}

/** A malformed query parameter: 400. */
export function invalidQuery(message: string, detail?: object): RegistryError {
  return new RegistryError('QUERY_INVALID', detail, { message })
}

/** A digest that is not that of the content: 400. */
export function otherContent(digest: string, content: string): RegistryError {
  const message = `the content has the digest ${content}, not ${digest}`
  return new RegistryError('DIGEST_INVALID', { digest, content }, { message })
}

/** Missing or invalid credentials: 401. */
export function unauthorized(message: string, cause?: unknown): RegistryError {
  return new RegistryError('UNAUTHORIZED', undefined, { message, cause })
}

/** A user name with a password, or a refresh token, that is wrong or no longer valid: 401. */
export function loginEnded(message: string): RegistryError {
  return new RegistryError('UNAUTHORIZED', undefined, { message, loginEnded: true })
}

/** Valid credentials that do not permit this: 403. */
export function denied(message: string, detail?: object): RegistryError {
  return new RegistryError('DENIED', detail, { message })
}

/** A resource that does not exist: 404. */
export function notFound(
  message: string,
  { detail, cause }: { detail?: object; cause?: unknown } = {},
): RegistryError {
  return new RegistryError('NOT_FOUND', detail, { message, cause })
}

/** A request that the present state does not permit: 409. */
export function conflict(message: string, detail?: object): RegistryError {
  return new RegistryError('CONFLICT', detail, { message })
}

/** A passing failure: 503, with the time to wait before the next attempt. */
export function unavailable(
  message: string,
  more: { retryAfterSeconds: number; cause?: unknown; isFault?: boolean },
): RegistryError {
  return new RegistryError('UNAVAILABLE', undefined, { message, ...more })
}
