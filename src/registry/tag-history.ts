import { recordChange } from '../db/auth/audit.ts'
import type { Database } from '../db/database.ts'
import { lockContents } from '../db/registry/manifests.ts'
import { findRepository, type View } from '../db/registry/repositories.ts'
import { listTagPositions, type TagPosition } from '../db/registry/tag-history.ts'
import { moveTags } from '../db/registry/tags.ts'
import type { Digest } from '../oci/digest.ts'
import { badRequest, conflict, RegistryError } from '../oci/errors.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { recordRollback } from './events/record.ts'
import { assertTagMutable } from './immutable-tags.ts'
import type { Page } from './listings.ts'
import { assertPrecondition, type Precondition } from './precondition.ts'
import type { Actor } from './view.ts'

export type { TagPosition }

/** A tag that is to go back. */
export type Rollback = {
  readonly repository: Repository
  readonly tag: Tag
  /** Where it was before; undefined: its last position before the one that it has. */
  readonly digest: Digest | undefined
  readonly actor: Actor
  readonly precondition: Precondition
}

export type RolledBack = {
  readonly digest: Digest
  /** Undefined for a tag that was deleted. */
  readonly previousDigest: Digest | undefined
}

// As far as a rollback looks back, also for a digest that is named.
const POSITIONS_MAX = 1000
// Somebody else may move the tag while it is decided where it goes.
const TRIES_MAX = 4
const SHOWN_MAX = 5

/** Where tags were, and back to it. */
export class TagHistory {
  readonly #db: Database
  readonly #onCommitted: () => void

  /** `onCommitted` hears of every rollback. */
  constructor(db: Database, onCommitted: () => void = () => {}) {
    this.#db = db
    this.#onCommitted = onCommitted
  }

  /** Positions before `before`, the newest first. Throws NAME_UNKNOWN, MANIFEST_UNKNOWN for a tag that never was. */
  async list(
    view: View,
    tag: Tag,
    before: number | undefined,
    limit: number,
  ): Promise<Page<TagPosition>> {
    const from = before ?? Number.MAX_SAFE_INTEGER
    const rows = await listTagPositions(this.#db, view, tag, from, limit + 1)
    if (rows.length === 0) await this.#demandKnown(view, tag)
    return { items: rows.slice(0, limit), more: rows.length > limit }
  }

  /**
   * Moves a tag to where it was: an undo, so a second one goes further back, and not forth again.
   * Throws NAME_UNKNOWN, MANIFEST_UNKNOWN for a tag that never was or a manifest that is gone,
   * REQUEST_INVALID for a digest where it never was, PRECONDITION_FAILED, CONFLICT when there is
   * nothing to go back to, and DENIED for a tag that never moves.
   */
  async rollback(rollback: Rollback): Promise<RolledBack> {
    for (let tries = 1; ; tries += 1) {
      const done = await this.#rollbackOnce(rollback)
      if (done !== undefined) {
        this.#onCommitted()
        return done
      }
      if (tries === TRIES_MAX) {
        throw conflict(`tag ${rollback.tag} is being moved by others: try again, with If-Match`)
      }
    }
  }

  /** Undefined when the tag was moved meanwhile. */
  async #rollbackOnce(rollback: Rollback): Promise<RolledBack | undefined> {
    const { repository, tag, actor, precondition: condition } = rollback
    const view = { repository, publicOnly: false }
    const positions = await listTagPositions(
      this.#db,
      view,
      tag,
      Number.MAX_SAFE_INTEGER,
      POSITIONS_MAX,
    )
    const [now] = positions
    if (now === undefined) throw await this.#unknown(view, tag)
    const current = now.digest ?? undefined
    assertPrecondition(condition, current)
    const digest = targetOf(positions, rollback)
    try {
      return await this.#db.transaction(async (tx) => {
        const { repositoryId, children } = await lockContents(tx, repository, [], [digest])
        if (repositoryId === null || children.length === 0) throw manifestDeleted(tag, digest)
        const [move] = await moveTags(tx, repositoryId, [tag], digest, actor.name, 'rollback')
        const previous = move?.previous ?? undefined
        // Undone with the transaction: it was decided for another position.
        if (previous !== current) throw new TagMovedError()
        if (move !== undefined && previous !== digest) assertTagMutable(move)
        const detail = current === undefined ? 'it was deleted' : `from ${current}`
        const change = { action: 'rollback', repository, tags: [tag], digest, detail }
        await recordChange(tx, actor, change)
        if (move !== undefined && previous !== digest) {
          await recordRollback(tx, { repositoryId, repository, digest, actor: actor.name, move })
        }
        return { digest, previousDigest: current }
      })
    } catch (error) {
      if (error instanceof TagMovedError) return undefined
      throw error
    }
  }

  async #demandKnown(view: View, tag: Tag): Promise<void> {
    const first = await listTagPositions(this.#db, view, tag, Number.MAX_SAFE_INTEGER, 1)
    if (first.length === 0) throw await this.#unknown(view, tag)
  }

  async #unknown(view: View, tag: Tag): Promise<RegistryError> {
    const id = await findRepository(this.#db, view)
    return id === undefined
      ? new RegistryError('NAME_UNKNOWN', { name: view.repository })
      : new RegistryError('MANIFEST_UNKNOWN', { tag }, { message: `there never was a tag ${tag}` })
  }
}

class TagMovedError extends Error {}

/** Where a rollback goes. `positions` are the newest first. */
function targetOf(positions: readonly TagPosition[], { tag, digest }: Rollback): Digest {
  if (digest === undefined) {
    const last = findUndone(positions)
    if (last !== undefined) return last
    throw conflict(
      `tag ${tag} has no position before this one${within(positions)} whose manifest is still there`,
      { tag },
    )
  }
  const there = positions.filter((position) => position.digest === digest)
  if (there.length === 0) {
    const known = [...new Set(positions.flatMap((one) => one.digest ?? []))].slice(0, SHOWN_MAX)
    throw badRequest(
      `tag ${tag} ${isCut(positions) ? 'was not' : 'was never'} at ${digest}${within(positions)}; a rollback goes back, such as to ${known.join(' or ')}`,
      { detail: { tag, digest } },
    )
  }
  if (there.every(({ mediaType }) => mediaType === null)) throw manifestDeleted(tag, digest)
  return digest
}

/**
 * The position before the present one, whatever was undone since: pushes pile up, and a rollback
 * takes away what lies above its target. Manifests that are gone are passed over.
 */
function findUndone(positions: readonly TagPosition[]): Digest | undefined {
  const pile: TagPosition[] = []
  for (const position of positions.toReversed()) {
    const { digest, reason } = position
    if (digest === null) continue
    if (reason === 'rollback') {
      const at = pile.findLastIndex((one) => one.digest === digest)
      if (at !== -1) pile.length = at
    }
    pile.push(position)
  }
  const isDeleted = positions[0]?.digest === null
  const current = pile.at(-1)?.digest
  const below = isDeleted ? pile : pile.slice(0, -1)
  const target = below.findLast(
    ({ digest, mediaType }) => mediaType !== null && (isDeleted || digest !== current),
  )
  return target?.digest ?? undefined
}

function isCut(positions: readonly TagPosition[]): boolean {
  return positions.length === POSITIONS_MAX
}

/** Older positions were not looked at, so nothing is said of them. */
function within(positions: readonly TagPosition[]): string {
  return isCut(positions) ? ` among its last ${POSITIONS_MAX}` : ''
}

function manifestDeleted(tag: Tag, digest: Digest): RegistryError {
  return new RegistryError(
    'MANIFEST_UNKNOWN',
    { tag, digest },
    {
      message: `manifest ${digest}, where tag ${tag} was, is deleted: push it again`,
    },
  )
}
