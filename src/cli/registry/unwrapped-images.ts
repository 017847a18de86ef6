import type { ImageReference } from '../../client/image-reference.ts'
import type { Login } from '../../client/login.ts'
import type { RemoteManifest, RemoteRepository } from '../../client/remote-repository.ts'
import type { Digest } from '../../oci/digest.ts'
import { type Manifest, parseManifest } from '../../oci/manifest.ts'
import { fileSystemLayers } from '../../unikernel/container/container-image.ts'
import { CONTAINER_KERNELS_MAX } from '../../unikernel/container/kernels.ts'
import { UNIKERNEL, UNWRAPPED } from '../../unikernel/format.ts'

/** The image of a kernel that a registry found in a container image. */
export type Unwrapped = { readonly found: RemoteManifest; readonly manifest: Manifest }

/** True for the image of a file system. */
export function isContainerImage(manifest: Manifest): boolean {
  return fileSystemLayers(manifest).length > 0
}

/** Finds the images of the kernels in a container image: referrers, which a Rookery makes. */
export async function findUnwrapped(
  repository: RemoteRepository,
  container: Digest,
): Promise<Unwrapped[]> {
  const referrers = await repository.listReferrers(container, UNIKERNEL)
  const images: Unwrapped[] = []
  for (const digest of referrers.slice(0, CONTAINER_KERNELS_MAX)) {
    const found = await repository.findManifest(digest)
    if (found === undefined) continue
    const manifest = parseManifest(found.bytes, found.mediaType)
    if (manifest.annotations?.[UNWRAPPED.path] !== undefined) images.push({ found, manifest })
  }
  return images
}

/** Asks a Rookery why a container image has no kernel. Undefined when the registry does not say. */
export async function findReason(
  reference: ImageReference,
  at: string,
  options: { readonly login: Login | undefined; readonly environment: NodeJS.ProcessEnv },
): Promise<string | undefined> {
  const { RegistryApi } = await import('../../client/registry-api.ts')
  const { RegistryResponseError } = await import('../../client/errors.ts')
  const api = new RegistryApi(reference, options)
  try {
    await api.find(`/api/v1/repositories/${reference.repository}/images/${at}`, `the image ${at}`)
    return undefined
  } catch (error) {
    if (!(error instanceof RegistryResponseError)) throw error
    return /is not a unikernel: (.*)/.exec(error.message)?.[1]
  } finally {
    await api.close()
  }
}
