import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database, Queryable } from '../db/database.ts'
import { lockContents } from '../db/registry/manifests.ts'
import { findRepository, type View } from '../db/registry/repositories.ts'
import {
  listTagPositions,
  POSITION_RUNS_MAX,
  type TagPosition,
} from '../db/registry/tag-history.ts'
import { moveTags } from '../db/registry/tags.ts'
import { type CreatedDeployment, createDeployments } from '../deployments/creation.ts'
import { type Digest, type DigestPrefix, isDigestPrefix, onlyDigestOf } from '../oci/digest.ts'
import { badRequest, conflict, RegistryError } from '../oci/errors.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { recordRollback } from './events/record.ts'
import { assertTagMutable } from './immutable-tags.ts'
import type { Page } from './listings.ts'
import { assertPrecondition, type Precondition } from './precondition.ts'

export type { TagPosition }
export { POSITION_RUNS_MAX }

/** A request to move a tag back to an earlier position. */
export type Rollback = {
  readonly repository: Repository
  readonly tag: Tag
  /** An earlier digest of the tag, also shortened; undefined: the position before the current one. */
  readonly digest: Digest | DigestPrefix | undefined
  readonly actor: Actor
  readonly precondition: Precondition
}

export type RolledBack = {
  readonly digest: Digest
  /** Undefined when the tag was deleted. */
  readonly previousDigest: Digest | undefined
  /** Empty when no unit follows the tag. */
  readonly deployments: readonly CreatedDeployment[]
}

// A rollback searches this many positions, with or without a digest.
const POSITIONS_MAX = 1000
// Another request may move the tag while the rollback chooses its target.
const ATTEMPTS_MAX = 4
const SHOWN_MAX = 5

/** The earlier positions of tags, and rollbacks to them. */
export class TagHistory {
  readonly #db: Database
  readonly #onCommitted: () => void

  /** `onCommitted` is called after every rollback. */
  constructor(db: Database, onCommitted: () => void = () => {}) {
    this.#db = db
    this.#onCommitted = onCommitted
  }

  /**
   * Lists positions before the id `before`, newest first. `db` is the connection of the question. Throws NAME_UNKNOWN, and MANIFEST_UNKNOWN for
   * a tag that never existed. `withRuns`: also where the kernels of each position ran.
   */
  async list(
    db: Queryable,
    view: View,
    tag: Tag,
    before: number | undefined,
    limit: number,
    withRuns = false,
  ): Promise<Page<TagPosition>> {
    const from = before ?? Number.MAX_SAFE_INTEGER
    const rows = await listTagPositions(db, view, tag, from, limit + 1, withRuns)
    if (rows.length === 0) await assertExisted(db, view, tag)
    return { items: rows.slice(0, limit), more: rows.length > limit }
  }

  /**
   * Moves a tag back to an earlier digest. It works as an undo: a second rollback goes further back, not
   * forth again. Throws NAME_UNKNOWN, MANIFEST_UNKNOWN for a tag that never existed or a deleted
   * manifest, REQUEST_INVALID for a digest that the tag never had, PRECONDITION_FAILED, CONFLICT when
   * there is no earlier digest, and DENIED for an immutable tag.
   */
  async rollback(rollback: Rollback): Promise<RolledBack> {
    for (let attempts = 1; ; attempts += 1) {
      const done = await this.#rollbackOnce(rollback)
      if (done !== undefined) {
        this.#onCommitted()
        return done
      }
      if (attempts === ATTEMPTS_MAX) {
        throw conflict(
          `tag ${rollback.tag} is being moved by other requests: try again, with If-Match`,
        )
      }
    }
  }

  /** Returns undefined when another request moved the tag meanwhile. */
  async #rollbackOnce(rollback: Rollback): Promise<RolledBack | undefined> {
    const { repository, tag, actor, precondition } = rollback
    const view = { repository, publicOnly: false }
    const positions = await listTagPositions(
      this.#db,
      view,
      tag,
      Number.MAX_SAFE_INTEGER,
      POSITIONS_MAX,
    )
    const [now] = positions
    if (now === undefined) throw await unknown(this.#db, view, tag)
    const current = now.digest ?? undefined
    assertPrecondition(precondition, current)
    const digest = targetOf(positions, rollback)
    try {
      return await this.#db.transaction(async (tx) => {
        const { repositoryId, children } = await lockContents(tx, repository, [], [digest])
        if (repositoryId === null || children.length === 0) throw manifestDeleted(tag, digest)
        const [move] = await moveTags(tx, repositoryId, [tag], digest, actor.name, 'rollback')
        const previous = move?.previous ?? undefined
        // Rolls the transaction back: the target was chosen for another position.
        if (previous !== current) throw new TagMovedError()
        if (move !== undefined && previous !== digest) assertTagMutable(move)
        const detail = current === undefined ? 'it was deleted' : `from ${current}`
        const change = { action: 'rollback', repository, tags: [tag], digest, detail }
        await recordChange(tx, actor, change)
        if (move === undefined || previous === digest) {
          return { digest, previousDigest: current, deployments: [] }
        }
        const to = { repositoryId, repository, digest }
        await recordRollback(tx, { ...to, actor: actor.name, move })
        const deployments = await createDeployments(tx, { ...to, kind: 'rollback', actor }, [move])
        return { digest, previousDigest: current, deployments }
      })
    } catch (error) {
      if (error instanceof TagMovedError) return undefined
      throw error
    }
  }
}

async function assertExisted(db: Queryable, view: View, tag: Tag): Promise<void> {
  const first = await listTagPositions(db, view, tag, Number.MAX_SAFE_INTEGER, 1)
  if (first.length === 0) throw await unknown(db, view, tag)
}

async function unknown(db: Queryable, view: View, tag: Tag): Promise<RegistryError> {
  const id = await findRepository(db, view)
  return id === undefined
    ? new RegistryError('NAME_UNKNOWN', { name: view.repository })
    : new RegistryError('MANIFEST_UNKNOWN', { tag }, { message: `tag ${tag} never existed` })
}

class TagMovedError extends Error {}

/** Returns the target of a rollback. `positions` are newest first. */
function targetOf(positions: readonly TagPosition[], { tag, digest }: Rollback): Digest {
  if (digest === undefined) {
    const last = findUndone(positions)
    if (last !== undefined) return last
    throw conflict(
      `tag ${tag} has no earlier position${within(positions)} whose manifest still exists`,
      { tag },
    )
  }
  const matches = positions.filter((position) => position.digest?.startsWith(digest))
  const found = [...new Set(matches.flatMap((position) => position.digest ?? []))]
  const target = isDigestPrefix(digest) ? onlyDigestOf(digest, found) : found[0]
  if (target === undefined) {
    const earlier = [...new Set(positions.flatMap((one) => one.digest ?? []))].slice(0, SHOWN_MAX)
    throw badRequest(
      `tag ${tag} ${isCut(positions) ? 'was not' : 'was never'} at ${digest}${within(positions)}; a rollback goes back, such as to ${earlier.join(' or ')}`,
      { detail: { tag, digest } },
    )
  }
  if (matches.every(({ mediaType }) => mediaType === null)) throw manifestDeleted(tag, target)
  return target
}

/**
 * Finds the position before the current one on a stack of positions: a push adds one, and a rollback
 * removes the positions above its target. Positions whose manifest is deleted are skipped.
 */
function findUndone(positions: readonly TagPosition[]): Digest | undefined {
  const stack: TagPosition[] = []
  for (const position of positions.toReversed()) {
    const { digest, reason } = position
    if (digest === null) continue
    if (reason === 'rollback') {
      const at = stack.findLastIndex((one) => one.digest === digest)
      if (at !== -1) stack.length = at
    }
    stack.push(position)
  }
  const isDeleted = positions[0]?.digest === null
  const current = stack.at(-1)?.digest
  const below = isDeleted ? stack : stack.slice(0, -1)
  const target = below.findLast(
    ({ digest, mediaType }) => mediaType !== null && (isDeleted || digest !== current),
  )
  return target?.digest ?? undefined
}

function isCut(positions: readonly TagPosition[]): boolean {
  return positions.length === POSITIONS_MAX
}

/** Limits a message to the positions that were searched. */
function within(positions: readonly TagPosition[]): string {
  return isCut(positions) ? ` among its last ${POSITIONS_MAX}` : ''
}

function manifestDeleted(tag: Tag, digest: Digest): RegistryError {
  return new RegistryError(
    'MANIFEST_UNKNOWN',
    { tag, digest },
    {
      message: `manifest ${digest}, an earlier position of tag ${tag}, is deleted: push it again`,
    },
  )
}
