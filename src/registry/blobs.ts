import { recordChange } from '../db/auth/audit.ts'
import type { Database } from '../db/database.ts'
import { touchBlob } from '../db/maintenance/garbage.ts'
import {
  type BlobLookups,
  blobLookups,
  type FoundBlob,
  mountBlob,
  removeBlob,
} from '../db/registry/blobs.ts'
import {
  ensureRepository,
  findRepository,
  type View,
  type Visibility,
} from '../db/registry/repositories.ts'
import { EMPTY_JSON, isEmptyDescriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import type { BlobStore, ByteRange } from '../storage/blob-store.ts'
import { assertNotUsedByImmutableTag } from './immutable-tags.ts'
import { translateStoreError, withStoreErrors } from './store-errors.ts'
import type { Actor } from './view.ts'

export type { ByteRange }

export type Blob = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Both ends of the range count. Chunks are valid until the next one is asked for. */
  read(range: ByteRange): AsyncIterable<Uint8Array>
  /** Where the client can read the bytes itself, if the store has such a place. */
  link(): Promise<string | undefined>
}

export type BlobsOptions = {
  /** What a repository is when its first push makes it. */
  readonly visibility: Visibility
  /** A blob that nobody touched for so long may be swept, when no manifest names it. */
  readonly graceSeconds: number
}

// A client that was told that a blob exists leaves it out of its push. So looking touches, and the
// grace period begins anew; but to write at each look would cost more than the look.
const TOUCHES_A_GRACE = 8

/** Finished blobs: distribution spec, "Pulling blobs", "Mounting a blob" and "Deleting Blobs". */
export class Blobs {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #visibility: Visibility
  readonly #lookups: BlobLookups

  constructor(db: Database, store: BlobStore, { visibility, graceSeconds }: BlobsOptions) {
    this.#db = db
    this.#store = store
    this.#visibility = visibility
    this.#lookups = blobLookups(db, graceSeconds / TOUCHES_A_GRACE)
  }

  /** end-2. Opens nothing before `read`. Throws NAME_UNKNOWN, BLOB_UNKNOWN. */
  async find(view: View, digest: Digest): Promise<Blob> {
    const blob = await this.#look(view, digest)
    if (blob === undefined) return emptyJson(digest)
    const { size, storageKey } = blob
    return {
      digest,
      size,
      read: (range) => withStoreErrors(this.#store.read(storageKey, range)),
      link: () =>
        this.#store.link(storageKey).catch((error: unknown) => {
          throw translateStoreError(error)
        }),
    }
  }

  /** end-2, for who asks whether it has to push: what is told to be there stays for the grace period. */
  async stat(view: View, digest: Digest): Promise<{ digest: Digest; size: number }> {
    const blob = await this.#look(view, digest)
    if (blob === undefined) return emptyJson(digest)
    const { size, storageKey, stale } = blob
    if (stale && !(await touchBlob(this.#db, digest, storageKey))) {
      throw new RegistryError('BLOB_UNKNOWN', { digest })
    }
    return { digest, size }
  }

  /**
   * end-11. False when there is nothing to mount, and an ordinary upload has to follow. Sources are
   * public, or named by `visible`: expressions of Postgres.
   */
  async mount(
    target: Repository,
    digest: Digest,
    from: Repository | undefined,
    visible: readonly string[],
  ): Promise<boolean> {
    const repositoryId = await ensureRepository(this.#db, target, this.#visibility)
    return mountBlob(this.#db, repositoryId, digest, from, visible)
  }

  /** end-10. Throws NAME_UNKNOWN, BLOB_UNKNOWN, and DENIED for what an immutable tag needs. */
  async remove(repository: Repository, digest: Digest, actor: Actor): Promise<void> {
    const outcome = await this.#db.transaction(async (tx) => {
      const repositoryId = await findRepository(tx, { repository, publicOnly: false })
      if (repositoryId !== undefined) await assertNotUsedByImmutableTag(tx, repositoryId, digest)
      const removed = await removeBlob(tx, repository, digest)
      if (removed === 'removed') {
        await recordChange(tx, actor, { action: 'delete-blob', repository, digest })
      }
      return removed
    })
    if (outcome === 'repository unknown')
      throw new RegistryError('NAME_UNKNOWN', { name: repository })
    if (outcome === 'blob unknown') throw new RegistryError('BLOB_UNKNOWN', { digest })
  }

  /** Throws NAME_UNKNOWN; undefined when the repository lacks the blob. */
  async #look(view: View, digest: Digest): Promise<FoundBlob | undefined> {
    const { repositoryId, blob } = await this.#lookups.load({ view, digest })
    if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    return blob
  }
}

/** The one blob that is always there. Throws BLOB_UNKNOWN for any other. */
function emptyJson(digest: Digest): Blob {
  if (!isEmptyDescriptor(digest)) throw new RegistryError('BLOB_UNKNOWN', { digest })
  return { digest, size: EMPTY_JSON.length, read: readEmptyJson, link: async () => undefined }
}

async function* readEmptyJson({ start, end }: ByteRange): AsyncGenerator<Uint8Array> {
  yield EMPTY_JSON.subarray(start, end + 1)
}
