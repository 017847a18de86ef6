import { unavailable } from '../oci/errors.ts'
import { StoreFullError, StoreUnavailableError } from '../storage/blob-store.ts'

const RETRY_WHEN_FULL_SECONDS = 60
const RETRY_WHEN_UNAVAILABLE_SECONDS = 5

/** What a client is told of a store that cannot do it now; any other error as it is. */
export function translateStoreError(error: unknown): unknown {
  if (error instanceof StoreFullError) {
    return unavailable('the registry has no space left for blobs', {
      retryAfterSeconds: RETRY_WHEN_FULL_SECONDS,
      cause: error,
    })
  }
  if (error instanceof StoreUnavailableError) {
    return unavailable('the registry cannot reach its blob storage at the moment, try again', {
      retryAfterSeconds: RETRY_WHEN_UNAVAILABLE_SECONDS,
      cause: error,
    })
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
    throw translateStoreError(error)
  }
}
