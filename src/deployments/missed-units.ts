import type { Database } from '../db/database.ts'
import { findNewestDigest, lockTag } from '../db/deployments/deployments.ts'
import { listMissedTags, type MissedTag, remakeTargets } from '../db/deployments/missed-units.ts'
import { createDeployments } from './creation.ts'

/** How often missed units are looked for. */
export const MISSED_UNITS_SECONDS = 10
/** For how long after its registration a unit may have been missed: longer than any transaction. */
const REGISTERED_SECONDS_MAX = 300
/** Tags, and deployments, of one search. */
const MISSED_MAX = 100

/**
 * Finds units whose registration and a move of their tag committed without seeing each other: a tag that moved without a
 * deployment gets one, and a deployment that missed units is completed. Returns true when it made any deployment.
 */
export async function findMissedUnits(db: Database): Promise<boolean> {
  await db.transaction((tx) => remakeTargets(tx, REGISTERED_SECONDS_MAX, MISSED_MAX))
  const tags = await listMissedTags(db, REGISTERED_SECONDS_MAX, MISSED_MAX)
  for (const tag of tags) await deployMissed(db, tag)
  return tags.length > 0
}

async function deployMissed(db: Database, missed: MissedTag): Promise<void> {
  const { repositoryId, repository, tag, digest } = missed
  await db.transaction(async (tx) => {
    // Another process may have made it, or the tag may have moved.
    if ((await lockTag(tx, repositoryId, tag)) !== digest) return
    if ((await findNewestDigest(tx, repositoryId, tag)) === digest) return
    const actor = { name: missed.actor, origin: null }
    const cause = { repositoryId, repository, digest, kind: 'push', actor } as const
    await createDeployments(tx, cause, [{ tag, previous: null, isFollowed: true }])
  })
}
