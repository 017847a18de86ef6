import type { TagChange } from '../db/registry/tags.ts'
import { denied } from '../oci/errors.ts'
import { matchesAnyGlob } from '../oci/glob.ts'

/** Throws DENIED when the tag exists and is immutable. */
export function assertTagMutable({ tag, previous, immutableTags }: TagChange): void {
  if (previous === null || !matchesAnyGlob(immutableTags, tag)) return
  throw denied(`tag ${tag} is immutable, and points to ${previous}`, { tag, digest: previous })
}
