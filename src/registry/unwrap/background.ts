import { Loop } from '../../async/loop.ts'
import type { Actor } from '../../db/auth/audit.ts'
import type { Database } from '../../db/database.ts'
import { lockManifest } from '../../db/registry/manifests.ts'
import {
  claimUnwrap,
  listTagsOf,
  type PendingUnwrap,
  postponeUnwrap,
  putUnwrapState,
} from '../../db/registry/unwraps.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { recordUnwrapping } from '../events/record.ts'
import { lockContentsOf } from '../manifest-contents.ts'
import { recordUnwrapped } from './recording.ts'
import type { ContainerImage, Unwrapped, Unwrapper } from './unwrapper.ts'

const EVERY_SECONDS = 10
/** Longer than the reading of an image may take. When its process dies, another reads it then. */
const LEASE_SECONDS = 45 * 60
const ATTEMPTS_MAX = 5
const RETRY_SECONDS = 60

export type BackgroundUnwrapping = {
  readonly db: Database
  readonly unwrapper: Unwrapper
  /** Events were committed. */
  onCommitted(): void
  onError(error: unknown): void
}

/** Reads the layers of container images that were too much for their pushes, one image after the other. */
export function startUnwrapping(options: BackgroundUnwrapping): Loop {
  const { db, onError } = options
  const work = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const pending = await claimUnwrap(db, LEASE_SECONDS)
      if (pending === undefined) return
      try {
        await unwrap(options, pending, signal)
      } catch (error) {
        if (!signal.aborted && pending.attempts >= ATTEMPTS_MAX) await giveUp(db, pending)
        else await postponeUnwrap(db, pending.manifestId, signal.aborted ? 0 : RETRY_SECONDS)
        if (signal.aborted) return
        const name = `${pending.repository}@${pending.digest}`
        onError(new Error(`the layers of ${name} cannot be read`, { cause: error }))
      }
    }
  }
  return new Loop({ work, onError, everySeconds: EVERY_SECONDS }).start()
}

async function unwrap(
  { db, unwrapper, onCommitted }: BackgroundUnwrapping,
  pending: PendingUnwrap,
  signal: AbortSignal,
): Promise<void> {
  const { repository, digest, bytes } = pending
  const manifest = parseManifest(bytes, pending.mediaType)
  const actor = pusherOf(pending)
  // The push had the right to write, also when it was revoked since.
  const image = { repository, digest, bytes, manifest, actor: { ...actor, origin: null } }
  const unwrapped = await unwrapper.unwrapLater(image, signal)
  if (await record(db, pending, { ...image, actor }, unwrapped)) onCommitted()
}

/** Returns true when there are kernels, and so events. */
async function record(
  db: Database,
  { repositoryId }: PendingUnwrap,
  image: ContainerImage,
  unwrapped: Unwrapped,
): Promise<boolean> {
  const { repository, digest, actor } = image
  const { problem } = unwrapped
  return db.transaction(async (tx) => {
    // Before the manifest, as in a push.
    const madeBlobs = unwrapped.images.flatMap((made) => made.manifest.blobs)
    const contents = await lockContentsOf(tx, repository, NO_CONTENTS, madeBlobs)
    if (!(await lockManifest(tx, repositoryId, digest))) return false
    const state = { isPending: false, problem, builderOrigin: actor.origin }
    await putUnwrapState(tx, repositoryId, digest, state)
    if (unwrapped.images.length === 0) return false
    const push = { repositoryId, repository, digest, actor, buildId: undefined }
    const { events } = await recordUnwrapped(tx, push, unwrapped, contents)
    const tags = await listTagsOf(tx, repositoryId, digest)
    await recordUnwrapping(tx, { ...push, actor: actor.name }, tags, events)
    return true
  })
}

const NO_CONTENTS = { blobs: [], children: [], otherEntries: [], mentioned: [] }

async function giveUp(db: Database, { repositoryId, digest }: PendingUnwrap): Promise<void> {
  const problem = 'reading its layers failed several times: push it again'
  await db.transaction((tx) =>
    putUnwrapState(tx, repositoryId, digest, { isPending: false, problem, builderOrigin: null }),
  )
}

/** The pusher, as the builds name it. */
function pusherOf({ pushedBy, builderOrigin }: PendingUnwrap): Actor {
  const nothing = { tokenId: null, keyId: null, address: null, requestId: null }
  return { name: pushedBy, origin: builderOrigin, ...nothing }
}
