import type { Actor } from '../../db/auth/audit.ts'
import { COPY_SECONDS } from '../../db/builds/builds.ts'
import type { Transaction } from '../../db/database.ts'
import type { LockedContents } from '../../db/registry/manifests.ts'
import { isCopyOfContainer, putUnwrappedImage } from '../../db/registry/unwraps.ts'
import type { BuildEvent } from '../../events/event.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { ANALYZER_VERSION } from '../../unikernel/layer-analysis.ts'
import { readBuild, recordPushedBuild } from '../builds/recording.ts'
import { recordImage } from '../images/analyzer.ts'
import { blobsRemoved } from '../manifest-contents.ts'
import type { Unwrapped, UnwrappedImage } from './unwrapper.ts'

/** The push of a container image. */
export type ContainerPush = {
  readonly repositoryId: number
  readonly repository: Repository
  /** Digest of the container image. */
  readonly digest: Digest
  readonly actor: Actor
  readonly buildId: string | undefined
}

/** The builds of a container image: the id of the first, and the events. */
export type UnwrappedBuilds = {
  readonly id: string | undefined
  readonly events: readonly BuildEvent[]
}

/**
 * Records the unwrapped images in the transaction of the push of their container image, which has locked their blobs, and
 * a build of each.
 */
export async function recordUnwrapped(
  tx: Transaction,
  push: ContainerPush,
  { images }: Unwrapped,
  contents: LockedContents,
): Promise<UnwrappedBuilds> {
  const ids: string[] = []
  const events: BuildEvent[] = []
  for (const [index, image] of images.entries()) {
    await putImageOf(tx, push, image, contents)
    // A build has one image: the client's id is that of the first.
    const chosen = index === 0 ? push.buildId : undefined
    const built = await recordBuildOf(tx, { ...push, buildId: chosen }, image)
    if (built?.id !== undefined) ids.push(built.id)
    if (built?.event !== undefined) events.push(built.event)
  }
  return { id: ids[0], events }
}

async function putImageOf(
  tx: Transaction,
  { repositoryId, digest: container, actor }: ContainerPush,
  { digest, bytes, manifest, reading }: UnwrappedImage,
  contents: LockedContents,
): Promise<void> {
  const { mediaType, artifactType, annotations } = manifest
  const needed = new Set(manifest.blobs.map((blob) => blob.digest))
  const blobIds = contents.blobs.filter((blob) => needed.has(blob.digest)).map(({ id }) => id)
  const blobs = await putUnwrappedImage(tx, {
    ...{ repositoryId, digest, mediaType, artifactType, annotations, bytes, container, blobIds },
    pushedBy: actor.name,
    analyzerVersion: ANALYZER_VERSION,
  })
  if (blobs < needed.size) throw blobsRemoved()
  await recordImage(tx, repositoryId, digest, reading)
}

async function recordBuildOf(
  tx: Transaction,
  push: ContainerPush,
  { digest, manifest, reading, layer }: UnwrappedImage,
) {
  const { repositoryId, actor, buildId } = push
  const build = readBuild(manifest, reading.image)
  if (build === undefined) return undefined
  const client = actor.origin ?? actor.name
  if (buildId === undefined) {
    const copied = [push.digest, layer, COPY_SECONDS] as const
    if (await isCopyOfContainer(tx, repositoryId, client, ...copied)) return undefined
  }
  return recordPushedBuild(tx, { ...push, digest, mayBeCopy: true }, build)
}
