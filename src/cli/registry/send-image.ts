import { randomUUID } from 'node:crypto'
import type { Login } from '../../client/login.ts'
import { type LocalBlob, type PushedImage, pushImage } from '../../client/push.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { visible } from '../printing.ts'
import type { NamedImage } from './login-options.ts'
import { ProgressBar } from './progress-bar.ts'

/** The blobs of local files, and their manifest. */
export type Sendable = {
  readonly blobs: readonly LocalBlob[]
  readonly bytes: Uint8Array
  readonly digest: Digest
}

/** Pushes an image, with its progress on standard error. Throws as `pushImage`. */
export async function sendImage(
  image: Sendable,
  named: NamedImage,
  tags: readonly Tag[],
  login: Login | undefined,
  environment: NodeJS.ProcessEnv,
): Promise<PushedImage> {
  const { blobs, bytes: manifest, digest } = image
  const total = blobs.reduce((sum, { size }) => sum + size, 0)
  const bar = new ProgressBar(process.stderr, total)
  // Loaded here, so that help does not load the HTTP client.
  const { RemoteRepository } = await import('../../client/remote-repository.ts')
  const repository = new RemoteRepository(named.reference, named.reference.repository, {
    login,
    environment,
    actions: 'pull,push',
    onWait: (milliseconds, reason) =>
      bar.note(`rookery: ${visible(reason)}; retrying in ${Math.ceil(milliseconds / 1000)} s`),
  })
  try {
    const buildId = randomUUID()
    return await pushImage(repository, { blobs, manifest, digest, tags, buildId, progress: bar })
  } finally {
    bar.clear()
    await repository.close()
  }
}
