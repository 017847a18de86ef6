import { type BlobLookups, blobLookups, mountBlob, removeBlob } from '../db/blobs.ts'
import type { Database } from '../db/database.ts'
import { ensureRepository, type View, type Visibility } from '../db/repositories.ts'
import { EMPTY_JSON, isEmptyDescriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import type { BlobStore, ByteRange } from '../storage/blob-store.ts'

export type { ByteRange }

export type Blob = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Both ends of the range count. Chunks are valid until the next one is asked for. */
  read(range: ByteRange): AsyncIterable<Uint8Array>
}

/** Finished blobs: distribution spec, "Pulling blobs", "Mounting a blob" and "Deleting Blobs". */
export class Blobs {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #visibility: Visibility
  readonly #lookups: BlobLookups

  constructor(db: Database, store: BlobStore, visibility: Visibility) {
    this.#db = db
    this.#store = store
    this.#visibility = visibility
    this.#lookups = blobLookups(db)
  }

  /** end-2. Opens nothing before `read`. Throws NAME_UNKNOWN, BLOB_UNKNOWN. */
  async find(view: View, digest: Digest): Promise<Blob> {
    const { repositoryId, blob } = await this.#lookups.find({ view, digest })
    if (repositoryId === null) throw new OciError('NAME_UNKNOWN', { name: view.repository })
    if (blob !== undefined) {
      const { size, storageKey } = blob
      return { digest, size, read: (range) => this.#store.read(storageKey, range) }
    }
    if (isEmptyDescriptor(digest)) return { digest, size: EMPTY_JSON.length, read: readEmptyJson }
    throw new OciError('BLOB_UNKNOWN', { digest })
  }

  /** end-11. False when there is nothing to mount, and an ordinary upload has to follow. */
  async mount(
    target: Repository,
    digest: Digest,
    from: Repository | undefined,
    publicOnly: boolean,
  ): Promise<boolean> {
    const repositoryId = await ensureRepository(this.#db, target, this.#visibility)
    return mountBlob(this.#db, repositoryId, digest, from, publicOnly)
  }

  /** end-10. Throws NAME_UNKNOWN, BLOB_UNKNOWN. */
  async remove(repository: Repository, digest: Digest): Promise<void> {
    const outcome = await removeBlob(this.#db, repository, digest)
    if (outcome === 'repository unknown') throw new OciError('NAME_UNKNOWN', { name: repository })
    if (outcome === 'blob unknown') throw new OciError('BLOB_UNKNOWN', { digest })
  }
}

async function* readEmptyJson({ start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  yield EMPTY_JSON.subarray(start, end + 1)
}
