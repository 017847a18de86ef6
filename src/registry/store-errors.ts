import { unavailable } from '../oci/errors.ts'
import { StoreFullError, StoreReserveError, StoreUnavailableError } from '../storage/blob-store.ts'

const FULL_RETRY_SECONDS = 60
const UNAVAILABLE_RETRY_SECONDS = 5

/** Translates a full or unavailable store to UNAVAILABLE for clients; returns any other error as it is. */
export function translateStoreError(error: unknown): unknown {
  if (error instanceof StoreFullError) {
    return unavailable('the registry has no space left for blobs', {
      retryAfterSeconds: FULL_RETRY_SECONDS,
      isFault: !(error instanceof StoreReserveError),
      cause: error,
    })
  }
  if (error instanceof StoreUnavailableError) {
    return unavailable('the registry cannot reach its blob storage at the moment, try again', {
      retryAfterSeconds: UNAVAILABLE_RETRY_SECONDS,
      cause: error,
    })
  }
  return error
}

/** Yields the chunks, and translates the store's errors for clients. */
export async function* withStoreErrors(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks
  } catch (error) {
    throw translateStoreError(error)
  }
}
