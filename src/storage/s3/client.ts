import { S3Client, type S3ClientConfig, S3ServiceException } from '@aws-sdk/client-s3'
import { errnoOf } from '../../async/errno.ts'
import { StoreFullError, StoreUnavailableError } from '../blob-store.ts'

export type S3Settings = {
  readonly bucket: string
  /** Before every key; empty, or with a slash at its end. */
  readonly prefix: string
  /** Undefined: AWS, in the region. */
  readonly endpoint: string | undefined
  /** Undefined: the SDK's chain says it. */
  readonly region: string | undefined
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly pathStyle: boolean
  /** Whether the SDK adds checksums that not every server knows. */
  readonly checksums: 'when_required' | 'when_supported'
  /** What links begin with, when clients reach the store elsewhere than we do. */
  readonly publicEndpoint: string | undefined
  /** Most seconds that one call may take, all its tries together. */
  readonly timeoutSeconds: number
}

const TRIES_MAX = 4
const CONNECT_MILLISECONDS_MAX = 5_000
/** A connection on which nothing moves for this long is given up. */
const IDLE_MILLISECONDS_MAX = 20_000
const CONNECTIONS_MAX = 64

const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

const FULL: ReadonlySet<string> = new Set([
  'QuotaExceeded',
  'InsufficientStorage',
  'XMinioStorageFull',
  'InsufficientCapacity',
])
const INSUFFICIENT_STORAGE = 507
const GONE: ReadonlySet<string> = new Set([
  'NoSuchKey',
  'NotFound',
  'NoSuchUpload',
  'InvalidPart',
  'InvalidPartOrder',
])

/** The client, with what the store's address and the settings ask for. */
export function createClient(settings: S3Settings): S3Client {
  const { endpoint, region, timeoutSeconds } = settings
  const idle = Math.min(IDLE_MILLISECONDS_MAX, (timeoutSeconds * 1000) / 2)
  const checks = settings.checksums === 'when_supported' ? 'WHEN_SUPPORTED' : 'WHEN_REQUIRED'
  const config: S3ClientConfig = {
    forcePathStyle: settings.pathStyle,
    requestChecksumCalculation: checks,
    responseChecksumValidation: checks,
    maxAttempts: TRIES_MAX,
    // A round trip before each part; what it would save is told by errors, which are rare.
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
  if (endpoint === undefined || isPrivateWay(endpoint)) sendUnsigned(client)
  return client
}

/** Nobody on the way can change a body: TLS, or this machine. */
function isPrivateWay(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint)
  return protocol === 'https:' || LOOPBACK.test(hostname)
}

/** Leaves bodies out of the signature: to hash each once more costs a third of an upload. */
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
 * Runs one call within its limit. Throws ObjectMissingError for "it is not there", and StoreFullError or StoreUnavailableError
 * for anything else that goes wrong.
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
    throw meant(error)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

/** What was asked for is not there, or not any more. */
export class ObjectMissingError extends Error {
  override readonly name = 'ObjectMissingError'
}

/** What is worth knowing of the SDK's errors, which carry whole connections and their headers. */
function lean(error: Error): Error {
  const { name, message } = error
  const known = error instanceof S3ServiceException
  const { httpStatusCode, requestId, attempts } = known ? error.$metadata : {}
  const code = errnoOf(error)
  // What the SDK says when the store's answer has no words of its own.
  const said = message === 'UnknownError' ? undefined : message
  const text = [name, code, httpStatusCode, said].filter((part) => part !== undefined).join(' ')
  return Object.assign(new Error(text), { requestId, attempts })
}

function meant(error: unknown): unknown {
  if (error instanceof StoreUnavailableError || !(error instanceof Error)) return error
  const cause = lean(error)
  if (GONE.has(error.name)) return new ObjectMissingError(cause.message)
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined
  if (FULL.has(error.name) || status === INSUFFICIENT_STORAGE) {
    return new StoreFullError('the bucket has no room', { cause })
  }
  return new StoreUnavailableError(`the object store did not do it: ${cause.message}`, { cause })
}
