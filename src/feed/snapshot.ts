import type { Queryable } from '../db/database.ts'
import { type CurrentTag, type FeedState, findFeedState } from '../db/events/feed.ts'
import {
  hasPendingEvents,
  listCandidates,
  listCandidateTags,
  listCurrentUnikernels,
} from '../db/events/snapshot.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import { badRequest } from '../oci/errors.ts'
import { type Glob, matchesAnyGlob } from '../oci/glob.ts'
import type { FeedReader } from './followers.ts'

/** Tags of one snapshot. */
export const SNAPSHOT_TAGS_MAX = 10_000
/** Repositories whose tags a snapshot reads. */
const SNAPSHOT_REPOSITORIES_MAX = 10_000
const ANY_TAG = ['*' as Glob]

/** The current tags, and the position of the feed at that moment. */
export type Snapshot = FeedState & {
  /** True when a committed event has no position yet. */
  readonly hasPendingEvents: boolean
  readonly tags: readonly CurrentTag[]
}

/**
 * Reads the tags that match the reader's filter, in the order of repositories and tags. `db` is one snapshot of the
 * database. Throws REQUEST_INVALID for more than SNAPSHOT_TAGS_MAX tags, before it reads their images.
 */
export async function readSnapshot(db: Queryable, reader: FeedReader): Promise<Snapshot> {
  const { repositories, tags } = reader.filter
  const state = await findFeedState(db)
  const pending = await hasPendingEvents(db)
  const limit = SNAPSHOT_REPOSITORIES_MAX + 1
  const visible = await resolveVisible(db, reader.visible)
  const candidates = await listCandidates(db, repositories, visible, limit)
  if (candidates.length === limit) throw tooMany('repositories', SNAPSHOT_REPOSITORIES_MAX)
  const names = new Map(
    candidates
      .filter(({ name }) => matchesAnyGlob(repositories, name))
      .map(({ id, name }) => [id, name]),
  )
  const globs = tags ?? ANY_TAG
  const found = await listCandidateTags(db, [...names.keys()], globs, SNAPSHOT_TAGS_MAX + 1)
  if (found.length > SNAPSHOT_TAGS_MAX) throw tooMany('tags', SNAPSHOT_TAGS_MAX)
  const matching = found.filter(({ tag }) => matchesAnyGlob(globs, tag))
  const unikernels = await listCurrentUnikernels(db, matching)
  const current: CurrentTag[] = []
  for (const [index, { repositoryId, tag, digest, movedAt }] of matching.entries()) {
    const repository = names.get(repositoryId)
    if (repository === undefined) continue
    current.push({ repository, tag, digest, movedAt, unikernels: unikernels[index] ?? [] })
  }
  current.sort((a, b) => compare(a.repository, b.repository) || compare(a.tag, b.tag))
  return { ...state, hasPendingEvents: pending, tags: current }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b)
}

function tooMany(things: string, max: number) {
  return badRequest(`a snapshot has at most ${max} ${things}: name repositories or tags`)
}
