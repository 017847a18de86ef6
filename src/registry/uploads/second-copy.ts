import type { Queryable } from '../../db/database.ts'
import type { BlobRow } from '../../db/registry/blobs.ts'
import { type BlobBytes, findBlobBytes, replaceLostBytes } from '../../db/registry/lost-blobs.ts'
import { unavailable } from '../../oci/errors.ts'
import type { BlobStore } from '../../storage/blob-store.ts'

/** Other pushes may replace the bytes of a lost blob at the same time. */
const REPLACEMENTS_MAX = 3
const RETRY_SECONDS = 1

/**
 * Compares the bytes that an earlier push left with the second copy of a blob, and gives the blob the second copy when the
 * store lost them. Returns true then; otherwise the second copy can be deleted. `deletionId` is its queued deletion.
 * Throws UNAVAILABLE, and the errors of the store; the second copy then stays queued.
 */
export async function replaceIfLost(
  db: Queryable,
  store: BlobStore,
  earlier: BlobBytes,
  deletionId: number,
  { digest, size, storageKey }: BlobRow,
): Promise<boolean> {
  let bytes: BlobBytes | undefined = earlier
  for (let attempt = 1; bytes !== undefined && attempt <= REPLACEMENTS_MAX; attempt += 1) {
    const { storageKey: earlierKey, lost } = bytes
    if (!lost && (await store.stat(earlierKey)) === size) return false
    // A store that is not mounted, or another's, misses everything.
    await store.check()
    if (await replaceLostBytes(db, digest, earlierKey, storageKey, deletionId)) return true
    bytes = await findBlobBytes(db, digest)
  }
  throw unavailable('another request changed this blob, push it again', {
    retryAfterSeconds: RETRY_SECONDS,
  })
}
