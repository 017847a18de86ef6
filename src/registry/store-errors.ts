import { OciError } from '../oci/errors.ts'
import { StoreFull, StoreUnavailable } from '../storage/blob-store.ts'

const RETRY_WHEN_FULL_SECONDS = 60
const RETRY_WHEN_UNAVAILABLE_SECONDS = 5

/** What a client is told of a store that cannot do it now; any other error as it is. */
export function storeError(error: unknown): unknown {
  if (error instanceof StoreFull) {
    return unavailable('the registry has no space left for blobs', RETRY_WHEN_FULL_SECONDS, error)
  }
  if (error instanceof StoreUnavailable) {
    const message = 'the registry cannot reach its blob storage at the moment, try again'
    return unavailable(message, RETRY_WHEN_UNAVAILABLE_SECONDS, error)
  }
  return error
}

/** The same chunks, with the store's errors as clients are told them. */
export async function* withStoreErrors(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks
  } catch (error) {
    throw storeError(error)
  }
}

function unavailable(message: string, retrySeconds: number, cause: Error): OciError {
  return new OciError('UNAVAILABLE', undefined, {
    message,
    headers: { 'Retry-After': String(retrySeconds) },
    cause,
  })
}
