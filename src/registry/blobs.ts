import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database } from '../db/database.ts'
import { resolveVisible } from '../db/name-patterns.ts'
import {
  type BlobLookups,
  type BlobRow,
  blobLookups,
  type FoundBlob,
  mountBlob,
  removeBlob,
  touchBlob,
} from '../db/registry/blobs.ts'
import { findRepository, type View, type Visibility } from '../db/registry/repositories.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import { type Glob, globOf, matchesAnyGlob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'
import { BlobMissingError, type BlobStore, type ByteRange } from '../storage/blob-store.ts'
import { translateStoreError, withStoreErrors } from './store-errors.ts'
import { assertPartRemovable, type TagBounds } from './tag-bounds.ts'

export type { BlobRow, ByteRange }

export type Blob = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /**
   * Yields the bytes of the range, both ends included. A chunk is valid until the next one is requested. Throws
   * BLOB_UNKNOWN when the store lost them.
   */
  read(range: ByteRange): AsyncIterable<Uint8Array>
  /** Returns a URL from which the client can read the bytes; undefined when the store has none. */
  link(): Promise<string | undefined>
}

export type BlobsOptions = {
  /** The visibility of repositories that a push creates. */
  readonly visibility: Visibility
  /** A blob without a manifest is kept for this time after its last touch. */
  readonly graceSeconds: number
}

/** Returns the first bytes of a blob as text. Throws as `Blob.read`. */
export async function readStart(blob: Blob, bytesMax: number): Promise<string> {
  const end = Math.min(blob.size, bytesMax) - 1
  if (end < 0) return ''
  const chunks: Buffer[] = []
  // The store reuses the memory of a chunk.
  for await (const chunk of blob.read({ start: 0, end })) chunks.push(Buffer.from(chunk))
  return new TextDecoder().decode(Buffer.concat(chunks))
}

// A client leaves an existing blob out of its push, so a HEAD touches the blob, which restarts its grace
// period. Touching at most this often avoids a write at every HEAD, which would cost more than the HEAD.
const TOUCHES_A_GRACE = 8

/** Returns the source as a pattern of its own when one of the patterns matches it. */
function readable(source: Repository, visible: readonly Glob[]): readonly Glob[] {
  return matchesAnyGlob(visible, source) ? [globOf(source)] : []
}

/** Yields the chunks of a blob, and makes BLOB_UNKNOWN of missing bytes. */
async function* knownBytes(
  digest: Digest,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield* chunks
  } catch (cause) {
    if (!(cause instanceof BlobMissingError)) throw cause
    throw new RegistryError('BLOB_UNKNOWN', { digest }, { cause })
  }
}

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

  /** end-2: finds a blob to read; `read` opens it. Throws NAME_UNKNOWN, BLOB_UNKNOWN. */
  async find(view: View, digest: Digest): Promise<Blob> {
    return this.open(await this.#find(view, digest))
  }

  /** Opens a blob that a statement of the caller found. */
  open({ digest, size, storageKey }: BlobRow): Blob {
    return {
      digest,
      size,
      read: (range) => knownBytes(digest, withStoreErrors(this.#store.read(storageKey, range))),
      link: () =>
        this.#store.link(storageKey).catch((error: unknown) => {
          throw translateStoreError(error)
        }),
    }
  }

  /**
   * end-2: HEAD, by which a client decides whether to push: an existing blob stays for the grace period.
   * Throws NAME_UNKNOWN, BLOB_UNKNOWN.
   */
  async stat(view: View, digest: Digest): Promise<{ digest: Digest; size: number }> {
    const blob = await this.#find(view, digest)
    const { size, storageKey, staleAt } = blob
    if (staleAt <= performance.now() && !(await touchBlob(this.#db, digest, storageKey))) {
      throw new RegistryError('BLOB_UNKNOWN', { digest })
    }
    return { digest, size }
  }

  /**
   * end-11: mounts a blob from another repository. Undefined when no visible repository has the blob, and the client has to
   * upload it; `isNew` is true when the target did not have it. Visible are public repositories, and those that match one of `visible`.
   * Throws UNAUTHORIZED when the actor's right was revoked.
   */
  async mount(
    target: Repository,
    digest: Digest,
    from: Repository | undefined,
    visible: readonly Glob[],
    actor: Actor,
  ): Promise<{ readonly isNew: boolean } | undefined> {
    const destination = { repository: target, visibility: this.#visibility }
    const patterns = from === undefined ? visible : readable(from, visible)
    const names = await resolveVisible(this.#db, patterns)
    return mountBlob(this.#db, destination, digest, from, names, actor)
  }

  /**
   * end-10. Throws NAME_UNKNOWN, BLOB_UNKNOWN, and DENIED when the image of a tag contains the blob, or a referrer
   * of an image whose tag is immutable or beyond the bounds of the actor.
   */
  async remove(
    repository: Repository,
    digest: Digest,
    actor: Actor,
    bounds: TagBounds,
  ): Promise<void> {
    const outcome = await this.#db.transaction(async (tx) => {
      const repositoryId = await findRepository(tx, { repository, publicOnly: false })
      const removed = await removeBlob(tx, repository, digest)
      if (removed === 'removed' && repositoryId !== undefined) {
        // After the removal, which locks the blob against pushes that need it.
        await assertPartRemovable(tx, { repositoryId, kind: 'blob', digest }, bounds)
        await recordChange(tx, actor, { action: 'delete-blob', repository, digest })
      }
      return removed
    })
    if (outcome === 'repository unknown')
      throw new RegistryError('NAME_UNKNOWN', { name: repository })
    if (outcome === 'blob unknown') throw new RegistryError('BLOB_UNKNOWN', { digest })
  }

  /** Throws NAME_UNKNOWN, BLOB_UNKNOWN. */
  async #find(view: View, digest: Digest): Promise<FoundBlob> {
    const { repositoryId, blob } = await this.#lookups.load({ view, digest })
    if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (blob === undefined) throw new RegistryError('BLOB_UNKNOWN', { digest })
    return blob
  }
}
