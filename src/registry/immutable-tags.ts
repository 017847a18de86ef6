import type { Transaction } from '../db/database.ts'
import { HOLDING_TAGS_MAX, listTagsHolding, type TagChange } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { matchesAny } from '../oci/glob.ts'

/** Throws DENIED for a tag that was set before and stays where it is. */
export function demandMovable({ tag, previous, immutableTags }: TagChange): void {
  if (previous === null || !matchesAny(immutableTags, tag)) return
  throw new OciError(
    'DENIED',
    { tag, digest: previous },
    { message: `tag ${tag} is immutable, and is at ${previous}` },
  )
}

/** Throws DENIED for a blob or manifest without which the image of an immutable tag is not whole. */
export async function demandSpare(
  tx: Transaction,
  repositoryId: number,
  digest: Digest,
): Promise<void> {
  const holding = await listTagsHolding(tx, repositoryId, digest)
  for (const one of holding) demandMovable(one)
  if (holding.length < HOLDING_TAGS_MAX) return
  // There may be an immutable one among those that were not looked at.
  throw new OciError('DENIED', undefined, {
    message: `the images of ${HOLDING_TAGS_MAX} tags or more are made of it`,
  })
}
