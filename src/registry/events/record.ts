import type { Transaction } from '../../db/database.ts'
import { appendEvents, type NewEvent } from '../../db/events/outbox.ts'
import { findManifestSummary } from '../../db/registry/manifests.ts'
import type { TagChange } from '../../db/registry/tags.ts'
import type { ImageEvent, TagUpdated } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { unikernelFacts } from './image-diff.ts'

/** Where something happened, and who did it. */
type Happening = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly actor: string
}

/** A manifest that is there after a transaction. */
type PutManifest = Happening & {
  readonly digest: Digest
  readonly mediaType: string
  readonly artifactType: string | null
  /** Bytes. */
  readonly size: number
  /** False for what is known to be neither a unikernel nor an index of them. */
  readonly mayHaveUnikernels: boolean
  /** Only the tags that were elsewhere before. */
  readonly moves: readonly TagChange[]
}

export type RecordedPush = PutManifest & {
  readonly subject: Digest | undefined
  /** False when the same manifest was there before. */
  readonly isNew: boolean
}

/** Writes what a push changed into its transaction. The same push again changes nothing. */
export async function recordPush(tx: Transaction, push: RecordedPush): Promise<void> {
  const { repository, actor, digest, mediaType, artifactType, size, subject, isNew } = push
  if (!isNew && push.moves.length === 0) return
  const common = { repository, tag: null, digest, previousDigest: null, actor }
  const { updated, unikernels } = await describeMoves(tx, push, 'push')
  const added: ImageEvent[] = []
  if (isNew) {
    const manifest = { ...common, mediaType, artifactType, size }
    added.push(
      subject === undefined
        ? { type: 'image.pushed', ...manifest, unikernels }
        : { type: 'image.referrer.added', ...manifest, subject },
    )
  }
  await record(tx, push, [...added, ...updated])
}

/** Writes that tags went, and with `digest` that their manifest went, into the transaction. */
export async function recordRemoval(
  tx: Transaction,
  removal: Happening & {
    readonly gone: readonly Pick<TagChange, 'tag' | 'previous'>[]
    readonly digest?: Digest
  },
): Promise<void> {
  const { repository, actor, gone, digest } = removal
  const events = gone.flatMap(({ tag, previous }): ImageEvent[] =>
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

/** Writes that a tag went back into the transaction. */
export async function recordRollback(
  tx: Transaction,
  rollback: Happening & { readonly digest: Digest; readonly move: TagChange },
): Promise<void> {
  const { repositoryId, digest, move } = rollback
  const summary = await findManifestSummary(tx, repositoryId, digest)
  // It is locked by the same transaction.
  if (summary === undefined) throw new Error(`${digest} is locked and not there`)
  const put = { ...rollback, ...summary, mayHaveUnikernels: true, moves: [move] }
  const { updated } = await describeMoves(tx, put, 'rollback')
  await record(tx, rollback, updated)
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
  { repositoryId }: Happening,
  events: readonly ImageEvent[],
): Promise<void> {
  const rows = events.map((event): NewEvent => ({ event, repositoryId }))
  if (rows.length > 0) await appendEvents(tx, rows)
}
