/**
 * Every error code of the distribution spec ("Error Codes") and the few that registries have added
 * to it: the status it answers with, and its default message.
 */
export const ERRORS = {
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
  // Not in the spec's table, but what its statuses need and what clients already know.
  TAG_INVALID: [400, 'tag is malformed'],
  PAGINATION_NUMBER_INVALID: [400, 'invalid number of results requested'],
  QUERY_INVALID: [400, 'invalid query parameter'],
  REQUEST_INVALID: [400, 'malformed request'],
  PATH_UNKNOWN: [404, 'no such endpoint'],
  NOT_FOUND: [404, 'there is no such thing'],
  CONFLICT: [409, 'it is there already'],
  GONE: [410, 'it is there no more'],
  PRECONDITION_FAILED: [412, 'the condition of the request does not hold'],
  PAYLOAD_TOO_LARGE: [413, 'request body is too large'],
  URI_TOO_LONG: [414, 'too many tags in one request'],
  RANGE_INVALID: [416, 'requested range is not satisfiable'],
  UNKNOWN: [500, 'unknown error'],
  UNAVAILABLE: [503, 'the registry cannot serve this at the moment, try again'],
} as const satisfies Record<string, readonly [status: number, message: string]>

export type ErrorCode = keyof typeof ERRORS

export type RegistryErrorOptions = {
  /** One sentence that says what was wrong and what is right, instead of the code's own. */
  message?: string
  /** Response headers that belong to the answer, such as `Range` after an out-of-order chunk. */
  headers?: Readonly<Record<string, string>>
  cause?: unknown
}

/** What a client did wrong, or may not do, in the distribution spec's own words. */
export class RegistryError extends Error {
  override readonly name = 'OciError'
  readonly code: ErrorCode
  readonly detail: unknown
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ErrorCode, detail?: unknown, options: RegistryErrorOptions = {}) {
    super(options.message ?? ERRORS[code][1], { cause: options.cause })
    this.code = code
    this.detail = detail
    this.headers = options.headers ?? {}
  }

  get status(): number {
    return ERRORS[this.code][0]
  }

  /** The body of the answer: distribution spec, "Error Codes". */
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
