import type { Transaction } from '../db/database.ts'
import { listTagsUsing, type TagChange, USING_TAGS_MAX } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { denied } from '../oci/errors.ts'
import { matchesAnyGlob } from '../oci/glob.ts'

/** Throws DENIED for a tag that was set before and stays where it is. */
export function assertTagMutable({ tag, previous, immutableTags }: TagChange): void {
  if (previous === null || !matchesAnyGlob(immutableTags, tag)) return
  throw denied(`tag ${tag} is immutable, and is at ${previous}`, { tag, digest: previous })
}

/** Throws DENIED for a blob or manifest without which the image of an immutable tag is not whole. */
export async function assertNotUsedByImmutableTag(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  const holding = await listTagsUsing(tx, repositoryId, digest)
  for (const one of holding) assertTagMutable(one)
  if (holding.length < USING_TAGS_MAX) return
  // There may be an immutable one among those that were not looked at.
  throw denied(`the images of ${USING_TAGS_MAX} tags or more are made of it`)
}
