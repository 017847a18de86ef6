import { S3Client, type S3ClientConfig, S3ServiceException } from '@aws-sdk/client-s3'
import { errnoOf } from '../../async/errno.ts'
import { StoreFullError, StoreUnavailableError } from '../blob-store.ts'
import { ATTEMPTS_MAX, Retries } from './retries.ts'

export type S3Settings = {
  readonly bucket: string
  /** Precedes every key; empty, or ends in a slash. */
  readonly prefix: string
  /** Undefined: AWS in the region. */
  readonly endpoint: string | undefined
  /** Undefined: the SDK's default provider chain finds it. */
  readonly region: string | undefined
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly pathStyle: boolean
  /** Whether the SDK adds checksums, which not every server supports. */
  readonly checksums: 'when_required' | 'when_supported'
  /** The origin of download links, when clients reach the store at another address than the registry. */
  readonly publicEndpoint: string | undefined
  /** The limit of one call, including the SDK's retries. */
  readonly timeoutSeconds: number
}

const CONNECT_MILLISECONDS_MAX = 5_000
/** A connection without traffic is closed after this time. */
const IDLE_MILLISECONDS_MAX = 20_000
/** Connections of this process to the store. Further requests wait. */
export const CONNECTIONS_MAX = 96

/** The locked version of the SDK runs on Node 20: its warning that later ones do not would be in every output. */
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true'

const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

const FULL: ReadonlySet<unknown> = new Set([
  'QuotaExceeded',
  'InsufficientStorage',
  'XMinioStorageFull',
  'InsufficientCapacity',
])
const INSUFFICIENT_STORAGE = 507
const MISSING: ReadonlySet<unknown> = new Set([
  'NoSuchKey',
  'NotFound',
  'NoSuchUpload',
  'InvalidPart',
  'InvalidPartOrder',
  // The object is shorter than the start of the range.
  'InvalidRange',
])

/** Creates a client of the SDK for the store's address and settings. */
export function createClient(settings: S3Settings): S3Client {
  const { endpoint, region, timeoutSeconds } = settings
  const idle = Math.min(IDLE_MILLISECONDS_MAX, (timeoutSeconds * 1000) / 2)
  const checks = settings.checksums === 'when_supported' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED'
  const config: S3ClientConfig = {
    forcePathStyle: settings.pathStyle,
    requestChecksumCalculation: checks,
    responseChecksumValidation: checks,
    maxAttempts: ATTEMPTS_MAX,
    retryStrategy: new Retries(),
    // Waiting for "100 Continue" costs a round trip before each part, and saves bytes only on errors.
    expectContinueHeader: false,
    followRegionRedirects: true,
    requestHandler: {
      connectionTimeout: Math.min(CONNECT_MILLISECONDS_MAX, idle),
      socketTimeout: idle,
      httpAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
      httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS_MAX },
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  }
  const client = new S3Client(config)
  if (endpoint === undefined || isPrivateConnection(endpoint)) sendUnsigned(client)
  return client
}

/** True when nobody between us and the store can change a body: TLS, or the same machine. */
function isPrivateConnection(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint)
  return protocol === 'https:' || LOOPBACK.test(hostname)
}

/** Leaves bodies out of the signature: hashing each again costs a third of an upload. */
function sendUnsigned(client: S3Client): void {
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> }
      headers['x-amz-content-sha256'] ??= 'UNSIGNED-PAYLOAD'
      return next(args)
    },
    { step: 'build', name: 'rookeryUnsignedPayload' },
  )
}

/**
 * Runs one call within its limit. Throws ObjectMissingError for a missing object, and StoreFullError or
 * StoreUnavailableError for any other failure.
 */
export async function call<T>(
  timeoutSeconds: number,
  send: (options: { abortSignal: AbortSignal }) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted()
  const controller = new AbortController()
  const abort = () => controller.abort(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  const timer = setTimeout(() => controller.abort(), timeoutSeconds * 1000)
  try {
    return await send({ abortSignal: controller.signal })
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    if (controller.signal.aborted) {
      throw new StoreUnavailableError(`the object store did not answer within ${timeoutSeconds} s`)
    }
    throw translateError(error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

/** The object, upload or part does not exist. */
export class ObjectMissingError extends Error {
  override readonly name = 'ObjectMissingError'
}

/** Copies the useful parts of an SDK error, which refers to whole connections and their headers. */
function summarize(error: Error): Error {
  const { name, message } = error
  const { httpStatusCode, requestId, attempts } =
    error instanceof S3ServiceException ? error.$metadata : {}
  // The SDK's message when the store's response has none.
  const text = message === 'UnknownError' ? undefined : message
  const parts = [name, errnoOf(error), httpStatusCode, text].filter((part) => part !== undefined)
  return Object.assign(new Error(parts.join(' ')), { requestId, attempts })
}

function translateError(error: unknown): unknown {
  if (error instanceof StoreUnavailableError || !(error instanceof Error)) return error
  const cause = summarize(error)
  const code = s3CodeOf(error)
  if (isMissingObject(error)) return new ObjectMissingError(cause.message)
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
  if (FULL.has(code) || status === INSUFFICIENT_STORAGE) {
    return new StoreFullError('the bucket has no space left', { cause })
  }
  return new StoreUnavailableError(`the object store failed: ${cause.message}`, { cause })
}

/** True when the store answered that the object, upload or part does not exist. */
export function isMissingObject(error: unknown): boolean {
  return error instanceof Error && MISSING.has(s3CodeOf(error))
}

/** Returns the code of S3's error response. The SDK puts it into `name`, and has classes for few codes. */
function s3CodeOf(error: Error): string | undefined {
  return error instanceof S3ServiceException ? error.name : undefined
}
