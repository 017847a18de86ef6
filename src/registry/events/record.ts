import type { Transaction } from '../../db/database.ts'
import { appendEvents, type NewEvent } from '../../db/events/outbox.ts'
import { findManifestSummary } from '../../db/registry/manifests.ts'
import type { TagChange } from '../../db/registry/tags.ts'
import type { BuildEvent, RepositoryEvent, TagUpdated } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import { unikernelFacts } from './image-diff.ts'

/** The repository of a change, and its actor. */
type Change = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly actor: string
}

/** A manifest that exists after the transaction. */
type PutManifest = Change & {
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | null
  /** Bytes. */
  readonly size: number
  /** False for a manifest that is neither a unikernel nor an index. */
  readonly mayHaveUnikernels: boolean
  /** Only the tags that moved. */
  readonly moves: readonly TagChange[]
}

export type RecordedPush = PutManifest & {
  readonly subject: Digest | undefined
  /** False when the manifest existed before. */
  readonly isNew: boolean
  readonly builds: readonly BuildEvent[]
}

/** Records the events of a push in its transaction. A repeated push has none, unless it is another build. */
export async function recordPush(tx: Transaction, push: RecordedPush): Promise<void> {
  const { repository, actor, digest, mediaType, artifactType, size, subject, isNew, builds } = push
  if (!isNew && push.moves.length === 0) return record(tx, push, builds)
  const common = { repository, tag: null, digest, previousDigest: null, actor }
  const { updated, unikernels } = await describeMoves(tx, push, 'push')
  const added: RepositoryEvent[] = []
  if (isNew) {
    const manifest = { ...common, mediaType, artifactType, size }
    added.push(
      subject === undefined
        ? { type: 'image.pushed', ...manifest, unikernels }
        : { type: 'image.referrer.added', ...manifest, subject },
    )
  }
  await record(tx, push, [...added, ...updated, ...builds])
}

/** Records that the kernels of a container image were found after its push: an event for each tag, and the builds. */
export async function recordUnwrapping(
  tx: Transaction,
  change: Change & { readonly digest: Digest },
  tags: readonly Tag[],
  builds: readonly BuildEvent[],
): Promise<void> {
  const { repositoryId, repository, digest, actor } = change
  const summary = await findManifestSummary(tx, repositoryId, digest)
  // This transaction holds its lock.
  if (summary === undefined) throw new Error(`${digest} is locked, but missing`)
  const facts = await unikernelFacts(tx, repositoryId, digest, [])
  const unikernels = facts(undefined)
  const common = { repository, digest, previousDigest: null, actor, ...summary, unikernels }
  const events = tags.map((tag): RepositoryEvent => ({ type: 'image.unwrapped', tag, ...common }))
  await record(tx, change, [...events, ...builds])
}

/** Records that tags were deleted, and with `digest` that their manifest was, in the transaction. */
export async function recordRemoval(
  tx: Transaction,
  removal: Change & {
    readonly gone: readonly Pick<TagChange, 'tag' | 'previous'>[]
    readonly digest?: Digest
  },
): Promise<void> {
  const { repository, actor, gone, digest } = removal
  const events = gone.flatMap(({ tag, previous }): RepositoryEvent[] =>
    previous === null
      ? []
      : [
          {
            type: 'image.tag.deleted',
            repository,
            tag,
            digest: null,
            previousDigest: previous,
            actor,
          },
        ],
  )
  if (digest !== undefined) {
    const type = 'image.deleted'
    events.push({ type, repository, tag: null, digest, previousDigest: null, actor })
  }
  await record(tx, removal, events)
}

/** Records the rollback of a tag in its transaction. */
export async function recordRollback(
  tx: Transaction,
  rollback: Change & { readonly digest: Digest; readonly move: TagChange },
): Promise<void> {
  const { repositoryId, digest, move } = rollback
  const summary = await findManifestSummary(tx, repositoryId, digest)
  // This transaction holds its lock.
  if (summary === undefined) throw new Error(`${digest} is locked, but missing`)
  const put = { ...rollback, ...summary, mayHaveUnikernels: true, moves: [move] }
  const { updated } = await describeMoves(tx, put, 'rollback')
  await record(tx, rollback, updated)
}

/** Records the deletion of a repository in its transaction: one event, and none for its tags. */
export async function recordDeletion(tx: Transaction, change: Change): Promise<void> {
  const { repository, actor } = change
  const nothing = { tag: null, digest: null, previousDigest: null }
  await record(tx, change, [{ type: 'repository.deleted', repository, ...nothing, actor }])
}

async function describeMoves(tx: Transaction, put: PutManifest, reason: TagUpdated['reason']) {
  const { repositoryId, repository, digest, mediaType, artifactType, size, moves, actor } = put
  const previous = moves.flatMap((move) => move.previous ?? [])
  const facts = put.mayHaveUnikernels
    ? await unikernelFacts(tx, repositoryId, digest, previous)
    : () => []
  const updated = moves.map(
    (move): TagUpdated => ({
      type: 'image.tag.updated',
      repository,
      tag: move.tag,
      digest,
      previousDigest: move.previous,
      actor,
      reason,
      mediaType,
      artifactType,
      size,
      unikernels: facts(move.previous ?? undefined),
    }),
  )
  return { updated, unikernels: facts(undefined) }
}

async function record(
  tx: Transaction,
  { repositoryId }: Change,
  events: readonly RepositoryEvent[],
): Promise<void> {
  const rows = events.map((event): NewEvent => ({ event, repositoryId }))
  if (rows.length > 0) await appendEvents(tx, rows)
}
