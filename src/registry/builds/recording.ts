import type { Actor } from '../../db/auth/audit.ts'
import { recordBuild } from '../../db/builds/builds.ts'
import type { Transaction } from '../../db/database.ts'
import type { BuildEvent } from '../../events/event.ts'
import { invalidManifest } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Manifest } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import {
  type BuildClaims,
  inputIdOfReport,
  parseBuildClaims,
  platformOf,
  reportsFailure,
  reportsOther,
} from '../../unikernel/build-claims.ts'
import { findRole } from '../../unikernel/format.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'

/** The build that a pushed manifest states. */
export type PushedBuild = {
  readonly claims: BuildClaims
  readonly kernelDigest: Digest | undefined
  readonly inputId: string | undefined
}

/** The push that a build is recorded with. */
export type BuildPush = {
  readonly repositoryId: number
  readonly repository: Repository
  readonly digest: Digest
  readonly actor: Actor
  /** The id that the client chose, from `Rookery-Build`. */
  readonly buildId: string | undefined
  /** False when the registry made the manifest of files that the client sent. */
  readonly mayBeCopy: boolean
}

/**
 * Reads the build that a manifest states: of its image, or a failed one. Undefined for any other manifest. Throws
 * MANIFEST_INVALID for malformed claims, and for a failed build with a kernel.
 */
export function readBuild(
  manifest: Manifest,
  image: UnikernelImage | undefined,
): PushedBuild | undefined {
  if (image === undefined) {
    if (!reportsFailure(manifest) && !reportsOther(manifest)) return undefined
    return {
      claims: parseBuildClaims(manifest),
      kernelDigest: reportsOther(manifest) ? mainBinaryOf(manifest) : undefined,
      inputId: inputIdOfReport(manifest),
    }
  }
  if (reportsFailure(manifest)) {
    throw invalidManifest('artifactType', 'is that of a failed build, but a layer is a kernel')
  }
  const claims = parseBuildClaims(manifest)
  const { digest, architecture } = image.kernel
  const platform = claims.platform ?? platformOf(image.buildEnvironment, architecture)
  return { claims: { ...claims, platform }, kernelDigest: digest, inputId: image.inputId }
}

/** Returns the digest of what a build made that is no unikernel. Throws MANIFEST_INVALID without it. */
function mainBinaryOf({ layers }: Manifest): Digest {
  const main = layers.find(({ mediaType, title }) => findRole(mediaType, title) === undefined)
  if (main === undefined) throw invalidManifest('layers', 'must have the main binary of the build')
  return main.digest
}

/**
 * Records a build in the transaction of its push, and returns its event: none for a copy, for a retry, and for the first
 * build of its inputs. Throws CONFLICT when the chosen id is that of another manifest.
 */
export async function recordPushedBuild(
  tx: Transaction,
  push: BuildPush,
  build: PushedBuild,
): Promise<{ id: string | undefined; event: BuildEvent | undefined }> {
  const { claims, kernelDigest, inputId } = build
  const { repositoryId, repository, digest, actor } = push
  const recorded = await recordBuild(tx, {
    ...claims,
    ...{
      repositoryId,
      id: push.buildId,
      mayBeCopy: push.mayBeCopy,
      digest,
      kernelDigest,
      inputId,
      actor,
    },
  })
  if (recorded.kind === 'copy') return { id: undefined, event: undefined }
  const { id } = recorded
  if (recorded.kind === 'retry') return { id, event: undefined }
  const common = {
    ...{ repository, tag: null, digest, previousDigest: null, actor: actor.name },
    build: id,
    platform: claims.platform ?? null,
    inputId: inputId ?? null,
    startedAt: claims.startedAt?.toISOString() ?? null,
    finishedAt: claims.finishedAt?.toISOString() ?? null,
  }
  if (claims.result !== 'succeeded') {
    const { result, exitCode = null, signal = null, message = null } = claims
    const failure = { result, exitCode, signal, message }
    return { id, event: { type: 'build.failed', ...common, ...failure } }
  }
  const { same, other } = recorded
  if (kernelDigest === undefined || same.length + other.length === 0) {
    return { id, event: undefined }
  }
  const type = same.length > 0 ? 'build.reproduced' : 'build.diverged'
  return { id, event: { type, ...common, kernelDigest, same, other } }
}
