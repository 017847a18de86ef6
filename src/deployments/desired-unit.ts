import type { DesiredRow } from '../db/deployments/desired.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import { type ImageKernels, preflight, type RefusalReason } from './preflight.ts'

/** The image that a unit should run, and the state that its host reported last. */
export type DesiredUnit = {
  readonly name: string
  readonly repository: Repository
  readonly tag: Tag
  /** The digest of the manifest. Null: the unit keeps what it runs. */
  readonly digest: Digest | null
  /** Null: the image has none for the host, and `reason` says why. */
  readonly kernel: { readonly digest: Digest; readonly size: number } | null
  /** The deployment that granted the digest. */
  readonly deployment: string | null
  /** How long the unit is watched after its first passed check, in seconds. */
  readonly watchSeconds: number | null
  /** The reason why the unit waits, in one sentence. */
  readonly hold: string | null
  /** Why there is no kernel. */
  readonly reason: RefusalReason | 'waits' | 'no-tag' | 'image-deleted' | null
  readonly message: string | null
  readonly seen: {
    readonly kernel: Digest | null
    readonly state: string
    readonly sequence: number
  }
}

/** Describes what a unit should run. `image`: the kernels of its granted digest; undefined: the manifest is gone. */
export function desiredUnit(row: DesiredRow, image: ImageKernels | undefined): DesiredUnit {
  const { name, repository, tag, grantedDigest, grantedBy, tagDigest } = row
  const common = {
    ...{ name, repository, tag },
    deployment: grantedBy,
    watchSeconds: row.settleSeconds,
    hold: holdOf(row),
    seen: { kernel: row.kernel, state: row.state, sequence: row.sequence },
  }
  const nothing = (reason: DesiredUnit['reason'], message: string): DesiredUnit => ({
    ...common,
    digest: null,
    kernel: null,
    ...{ reason, message },
  })
  if (tagDigest === null) return nothing('no-tag', `there is no tag ${tag} in ${repository}`)
  if (grantedDigest === null) {
    return nothing('waits', 'no image of the tag was healthy anywhere yet')
  }
  if (image === undefined) return nothing('image-deleted', `${grantedDigest} was deleted`)
  const chosen = image.kernels.find(({ kernel }) => kernel === row.grantedKernel)
  const found = chosen === undefined ? preflight(image, row) : { kernel: chosen }
  if (found.kernel === null) {
    const { reason, message } = found
    return { ...common, digest: grantedDigest, kernel: null, reason, message }
  }
  const { kernel, size } = found.kernel
  return {
    ...common,
    digest: grantedDigest,
    kernel: { digest: kernel, size },
    ...{ reason: null, message: null },
  }
}

function holdOf({ isWaiting, waitsFor }: DesiredRow): string | null {
  if (!isWaiting) return null
  return waitsFor === null ? 'waits for its turn' : `waits for ${waitsFor}`
}
