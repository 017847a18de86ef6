import type { Digest } from '../../oci/digest.ts'
import { withoutHiddenCharacters } from '../../oci/hidden-characters.ts'
import type { Manifest } from '../../oci/manifest.ts'
import { baseName, imageManifest, NO_TIME, UNWRAPPED } from '../format.ts'
import type { ContainerKernel } from './kernels.ts'

/** The container image that a kernel was found in. */
export type Container = {
  readonly manifest: Manifest
  readonly digest: Digest
  /** Bytes of the manifest. */
  readonly size: number
}

/**
 * Makes the manifest of the image of a kernel in a container image. The same container image always makes the same bytes.
 * `created` is the time of the container image.
 */
export function unwrappedManifest(
  container: Container,
  { path, layer, size }: ContainerKernel,
  digest: Digest,
  created: string | undefined,
): Uint8Array {
  const { mediaType } = container.manifest
  return imageManifest({
    files: [{ role: 'kernel', title: shown(baseName(path)), digest, size }],
    config: undefined,
    created: created ?? NO_TIME,
    annotations: { [UNWRAPPED.path]: `/${shown(path)}`, [UNWRAPPED.layer]: layer },
    subject: { mediaType, digest: container.digest, size: container.size },
  })
}

/** A path without the characters that hide or reorder text. */
function shown(path: string): string {
  return withoutHiddenCharacters(path.replace(/\p{Cc}/gu, '')) || 'kernel'
}
