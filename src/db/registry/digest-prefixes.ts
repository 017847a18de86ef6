import type { Digest, DigestPrefix } from '../../oci/digest.ts'
import type { Queryable } from '../database.ts'

/** Lists at most `limit` digests of a repository's manifests that begin with a prefix, in their order. */
export async function listDigestsWithPrefix(
  db: Queryable,
  repositoryId: number,
  prefix: DigestPrefix,
  limit: number,
): Promise<Digest[]> {
  // In the order of bytes `g` follows each hexadecimal digit, so the index has the range.
  const { rows } = await db.query<{ digest: Digest }>(
    `select digest
       from manifests
      where repository_id = $1
        and digest >= $2
        and digest < $2 || 'g'
      order by digest
      limit $3`,
    [repositoryId, prefix, limit],
  )
  return rows.map(({ digest }) => digest)
}
