import { Readable } from 'node:stream'
import type { Actor } from '../../db/auth/audit.ts'
import { EMPTY_JSON } from '../../oci/descriptor.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { RegistryError } from '../../oci/errors.ts'
import type { Repository } from '../../oci/reference.ts'
import type { KernelFile } from '../../unikernel/container/layer-files.ts'
import type { Blobs } from '../blobs.ts'
import type { Uploads } from '../uploads/uploads.ts'

const EMPTY_DIGEST = digestOf(EMPTY_JSON)

/** Makes the kernels of container images blobs of the repository. */
export class KernelBlobs {
  readonly #blobs: Blobs
  readonly #uploads: Uploads

  constructor(blobs: Blobs, uploads: Uploads) {
    this.#blobs = blobs
    this.#uploads = uploads
  }

  /**
   * Stores a kernel, and the empty config of its image, unless the repository has them: then their grace period begins
   * again. Returns the digest of the kernel. Throws as `Uploads.uploadWhole`, and what `open` throws.
   */
  async ensure(
    repository: Repository,
    actor: Actor,
    { digest, size }: KernelFile,
    open: () => AsyncIterable<Uint8Array>,
  ): Promise<Digest> {
    if (!(await this.#has(repository, EMPTY_DIGEST))) {
      await this.#store(repository, actor, Readable.from([EMPTY_JSON]), EMPTY_JSON.length)
    }
    if (digest !== undefined && (await this.#has(repository, digest))) return digest
    return this.#store(repository, actor, open(), size)
  }

  async #has(repository: Repository, digest: Digest): Promise<boolean> {
    try {
      await this.#blobs.stat({ repository, publicOnly: false }, digest)
      return true
    } catch (error) {
      if (error instanceof RegistryError && error.code === 'BLOB_UNKNOWN') return false
      throw error
    }
  }

  async #store(
    repository: Repository,
    actor: Actor,
    bytes: AsyncIterable<Uint8Array>,
    length: number,
  ): Promise<Digest> {
    const { id } = await this.#uploads.startSingleRequest(repository, actor)
    const key = { id, repository, actor }
    try {
      const { digest } = await this.#uploads.uploadWhole(key, { start: undefined, length, bytes })
      return digest
    } catch (error) {
      // Nobody knows the id of this upload. If abandoning fails too, the upload expires.
      await this.#uploads.abandon(key).catch(() => {})
      throw error
    }
  }
}
