import type { Transaction } from '../db/database.ts'
import { listTagsHolding, type TagChange } from '../db/tags.ts'
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
  for (const holding of await listTagsHolding(tx, repositoryId, digest)) demandMovable(holding)
}
