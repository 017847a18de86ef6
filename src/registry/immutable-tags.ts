import type { Transaction } from '../db/database.ts'
import { listTagsUsing, type TagChange, USING_TAGS_MAX } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { denied } from '../oci/errors.ts'
import { matchesAnyGlob } from '../oci/glob.ts'

/** Throws DENIED when the tag exists and is immutable. */
export function assertTagMutable({ tag, previous, immutableTags }: TagChange): void {
  if (previous === null || !matchesAnyGlob(immutableTags, tag)) return
  throw denied(`tag ${tag} is immutable, and points to ${previous}`, { tag, digest: previous })
}

/** Throws DENIED when the image of an immutable tag uses the blob or manifest. */
export async function assertNotUsedByImmutableTag(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  const using = await listTagsUsing(tx, repositoryId, digest)
  for (const change of using) assertTagMutable(change)
  if (using.length < USING_TAGS_MAX) return
  // One of the tags beyond the limit may be immutable.
  throw denied(`at least ${USING_TAGS_MAX} tags use it`)
}
