import type { Transaction } from '../db/database.ts'
import {
  listTagsOfPart,
  lockManifestsOfPart,
  MANIFESTS_OF_PART_MAX,
  type Part,
  TAGS_OF_PART_MAX,
  type TagsOfPart,
} from '../db/registry/tag-contents.ts'
import type { Digest } from '../oci/digest.ts'
import { conflict, denied } from '../oci/errors.ts'
import type { Tag } from '../oci/reference.ts'
import { assertTagMutable } from './immutable-tags.ts'

/** Returns true for a tag that the actor may change. Undefined: every tag. */
export type TagBounds = ((tag: Tag) => boolean) | undefined

// Another manifest may begin to contain the part while the manifests found before are locked.
const LOCK_ROUNDS_MAX = 4

/**
 * Throws DENIED when the image of a tag contains the part. A part of a referrer belongs to the tags of its subject:
 * throws DENIED when one of them is immutable or beyond the bounds. No such tag can appear until the transaction
 * ends. The caller has locked the part and removed the tags that go with it.
 */
export async function assertPartRemovable(
  tx: Transaction,
  part: Part,
  bounds: TagBounds,
): Promise<void> {
  let locked = ''
  for (let round = 1; round <= LOCK_ROUNDS_MAX; round += 1) {
    assertNoneKeeps(await listTagsOfPart(tx, part), part.digest, bounds)
    const containing = (await lockManifestsOfPart(tx, part)).join()
    if (containing === locked) return
    locked = containing
  }
  throw conflict(`other requests push manifests that contain ${part.digest}: try again`)
}

function assertNoneKeeps(found: TagsOfPart, digest: Digest, bounds: TagBounds): void {
  for (const change of found.tags) {
    assertTagMutable(change)
    const { tag, previous } = change
    const detail = { tag, digest: previous }
    if (change.contains) {
      throw denied(`the image of tag ${tag} contains ${digest}: delete the tag first`, detail)
    }
    if (bounds?.(tag) === false) {
      const message = `${digest} belongs to the image of tag ${tag}, which this credential may not delete`
      throw denied(message, detail)
    }
  }
  assertComplete(found, digest)
}

/**
 * Throws DENIED when a tag beyond the bounds has the image, contains it or is what it refers to: a change of how the
 * image is served, or of its referrers, would change that tag.
 */
export async function assertWithinBounds(
  tx: Transaction,
  part: Part,
  bounds: TagBounds,
): Promise<void> {
  if (bounds !== undefined) assertNoneForeign(await listTagsOfPart(tx, part), part.digest, bounds)
}

/** Throws DENIED when a tag of the image is immutable or beyond the bounds: its media type is part of the tag. */
export async function assertMediaTypeFree(
  tx: Transaction,
  part: Part,
  bounds: TagBounds,
): Promise<void> {
  const found = await listTagsOfPart(tx, part)
  for (const change of found.tags) assertTagMutable(change)
  assertNoneForeign(found, part.digest, bounds)
}

function assertNoneForeign(found: TagsOfPart, digest: Digest, bounds: TagBounds): void {
  const foreign = found.tags.find(({ tag }) => bounds?.(tag) === false)
  if (foreign !== undefined) {
    const { tag, previous } = foreign
    const message = `${digest} belongs to the image of tag ${tag}, which this credential may not push`
    throw denied(message, { tag, digest: previous })
  }
  assertComplete(found, digest)
}

/** Throws DENIED when there are more tags or manifests than were looked at: one of the others may forbid the change. */
function assertComplete({ tags, manifests }: TagsOfPart, digest: Digest): void {
  if (tags.length >= TAGS_OF_PART_MAX)
    throw denied(`at least ${TAGS_OF_PART_MAX} tags use ${digest}`)
  if (manifests >= MANIFESTS_OF_PART_MAX)
    throw denied(`at least ${MANIFESTS_OF_PART_MAX} manifests use ${digest}`)
}
