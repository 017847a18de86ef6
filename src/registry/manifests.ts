import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import { type Actor, recordChange } from '../db/auth/audit.ts'
import type { Database, Transaction } from '../db/database.ts'
import { notifyOpenDeployments } from '../db/deployments/deployments.ts'
import { touchBlobsOf } from '../db/registry/blobs.ts'
import {
  findManifestBytes,
  lockManifest,
  type ManifestLookups,
  manifestLookups,
  putManifest,
  removeManifest,
} from '../db/registry/manifests.ts'
import {
  ensureRepository,
  holdRepository,
  type View,
  type Visibility,
} from '../db/registry/repositories.ts'
import { moveTags, removeTag, removeTagsOf, type TagChange } from '../db/registry/tags.ts'
import { keepTaggedUnwrapped } from '../db/registry/unwraps.ts'
import { type CreatedDeployment, createDeployments } from '../deployments/creation.ts'
import { algorithmOf, type Digest, digestOf } from '../oci/digest.ts'
import { denied, otherContent, RegistryError } from '../oci/errors.ts'
import {
  assertPresentable,
  MANIFEST_BYTES_MAX,
  type Manifest,
  parseManifest,
} from '../oci/manifest.ts'
import type { Reference, Repository, Tag } from '../oci/reference.ts'
import type { UnikernelImage } from '../unikernel/image.ts'
import { ANALYZER_VERSION } from '../unikernel/layer-analysis.ts'
import { assertProvenance } from '../unikernel/validation.ts'
import { readBuild, recordPushedBuild } from './builds/recording.ts'
import { recordPush, recordRemoval } from './events/record.ts'
import { type ImageAnalysis, type ImageAnalyzer, recordImage } from './images/analyzer.ts'
import { assertTagMutable } from './immutable-tags.ts'
import { LARGE_MANIFEST_BYTES, LargeManifests } from './large-manifests.ts'
import { blobsOf, blobsRemoved, lockContentsOf } from './manifest-contents.ts'
import { assertPrecondition, type Precondition } from './precondition.ts'
import {
  assertMediaTypeFree,
  assertPartRemovable,
  assertWithinBounds,
  type TagBounds,
} from './tag-bounds.ts'
import { recordUnwrapped } from './unwrap/recording.ts'
import type { Unwrapped, Unwrapper } from './unwrap/unwrapper.ts'

export type StoredManifest = {
  readonly digest: Digest
  readonly mediaType: string
  /** Bytes. */
  readonly size: number
  /** Undefined when the options left them out. */
  readonly bytes: Buffer | undefined
  /** Must be called after the response, so that another large manifest can use the memory. */
  readonly release?: () => void
}

/** `withBytes`: load the bytes, except those of `cachedDigest`, which the caller has. */
export type ManifestFindOptions = {
  readonly withBytes: boolean
  readonly cachedDigest?: Digest | undefined
}

export type ManifestPush = {
  readonly repository: Repository
  readonly reference: Reference
  /** Further tags to set, from `?tag=`. */
  readonly tags: readonly Tag[]
  readonly contentType: string | undefined
  readonly bytes: Uint8Array
  readonly actor: Actor
  readonly precondition: Precondition
  /** The tags that the actor may push. */
  readonly bounds: TagBounds
  /** The id of the build, when the client chose one. */
  readonly buildId?: string | undefined
  /** True when the registry made the manifest of files that the client sent: then the push is no copy. */
  readonly isMade?: boolean
  /** Runs in the same transaction, before it commits. */
  readonly inTransaction?: (tx: Transaction, digest: Digest) => Promise<void>
}

/** A request to remove a tag or a manifest. */
export type ManifestRemoval = {
  readonly repository: Repository
  readonly reference: Reference
  readonly actor: Actor
  readonly precondition: Precondition
  /** The tags that the actor may remove. Removing a manifest removes all of its tags. */
  readonly bounds: TagBounds
}

/** The digest of a removed manifest, or of the manifest of a removed tag, and the removed tags. */
export type RemovedManifest = { readonly digest: Digest; readonly tags: readonly Tag[] }

export type PushedManifest = {
  readonly digest: Digest
  readonly subject: Digest | undefined
  /** Undefined when it is not a unikernel. */
  readonly image: UnikernelImage | undefined
  /** Undefined without all inputs. */
  readonly inputId: string | undefined
  /** The id of its build, also when the push repeats it. Undefined for a copy, and when it states no build. */
  readonly buildId: string | undefined
  /** For each tag that it moved and that units of hosts follow. */
  readonly deployments: readonly CreatedDeployment[]
}

/** A pushed manifest before its transaction. */
type AnalyzedManifest = {
  readonly digest: Digest
  readonly manifest: Manifest
  readonly reading: ImageAnalysis
  readonly unwrapped: Unwrapped
}

const CACHE_BYTES_MAX = 32 * 1024 * 1024

/** Distribution spec, "Pulling manifests", "Pushing Manifests" and "Deleting Manifests". */
export class Manifests {
  readonly #db: Database
  readonly #visibility: Visibility
  readonly #images: ImageAnalyzer
  readonly #unwrapper: Unwrapper
  readonly #onCommitted: () => void
  readonly #lookups: ManifestLookups
  // The bytes of a digest never change. Every request checks in the database whether it may read them.
  readonly #bytes = new LRUCache<Digest, Buffer>({
    maxSize: CACHE_BYTES_MAX,
    maxEntrySize: MANIFEST_BYTES_MAX,
    sizeCalculation: (bytes) => bytes.length + 1,
  })
  readonly #large = new LargeManifests()
  // The last digest of each tag: a guess that saves sending bytes, checked by the database.
  readonly #lastDigests = new LRUCache<string, Digest>(entriesMax(10_000))

  /** `onCommitted` is called after every change, so that events are delivered at once. */
  constructor(
    db: Database,
    visibility: Visibility,
    images: ImageAnalyzer,
    unwrapper: Unwrapper,
    onCommitted: () => void = () => {},
  ) {
    this.#db = db
    this.#visibility = visibility
    this.#images = images
    this.#unwrapper = unwrapper
    this.#onCommitted = onCommitted
    this.#lookups = manifestLookups(db, LARGE_MANIFEST_BYTES)
  }

  /** end-3: finds a manifest in one round trip. Throws NAME_UNKNOWN, MANIFEST_UNKNOWN. */
  async find(
    view: View,
    reference: Reference,
    options: ManifestFindOptions,
  ): Promise<StoredManifest> {
    const name = reference.kind === 'tag' ? reference.tag : reference.digest
    const cacheKey = `${view.repository} ${name}`
    const guess = reference.kind === 'tag' ? this.#lastDigests.get(cacheKey) : reference.digest
    // Read before the query, because the cache may evict it meanwhile.
    const guessed = guess === undefined ? undefined : this.#bytes.get(guess)
    const cached = options.withBytes
      ? guessed === undefined
        ? options.cachedDigest
        : guess
      : 'all'
    const { repositoryId, manifest } = await this.#lookups.load({ view, reference: name, cached })
    if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (manifest === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: name })
    const { digest, mediaType, size } = manifest
    if (options.withBytes && size > LARGE_MANIFEST_BYTES && digest !== options.cachedDigest) {
      if (reference.kind === 'tag') this.#lastDigests.set(cacheKey, digest)
      const load = () => this.#loadLarge(repositoryId, digest)
      return { digest, mediaType, size, ...(await this.#large.borrow(digest, size, load)) }
    }
    if (manifest.bytes !== null) {
      this.#bytes.set(digest, manifest.bytes)
      if (reference.kind === 'tag') this.#lastDigests.set(cacheKey, digest)
    }
    const bytes = manifest.bytes ?? (digest === guess ? guessed : undefined)
    return { digest, mediaType, size, bytes }
  }

  /** Returns the cached bytes, or reads them. Throws MANIFEST_UNKNOWN. */
  async #loadLarge(repositoryId: number, digest: Digest): Promise<Buffer> {
    const bytes =
      this.#bytes.get(digest) ?? (await findManifestBytes(this.#db, repositoryId, digest))
    if (bytes === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: digest })
    this.#bytes.set(digest, bytes)
    return bytes
  }

  /**
   * end-7a, end-7b: puts the manifest and all its tags, or nothing. Throws MANIFEST_INVALID,
   * MANIFEST_BLOB_UNKNOWN, DIGEST_INVALID, PRECONDITION_FAILED, and DENIED for an immutable tag, and when the push
   * changes the referrers or the media type of an image whose tag is beyond the bounds.
   */
  async put(push: ManifestPush): Promise<PushedManifest> {
    const manifest = parseManifest(push.bytes, push.contentType)
    assertPresentable(manifest)
    const digest = digestOfPush(push)
    const { repository, bytes, actor } = push
    // Before the transaction, because it reads from the store.
    const reading = await this.#images.analyze(repository, manifest, actor.name)
    return this.#unwrapper.unwrapPush(
      { repository, digest, bytes, manifest, actor },
      reading.blobs,
      (unwrapped) => this.#putAnalyzed(push, { digest, manifest, reading, unwrapped }),
    )
  }

  async #putAnalyzed(
    push: ManifestPush,
    { digest, manifest, reading, unwrapped }: AnalyzedManifest,
  ): Promise<PushedManifest> {
    const subject = manifest.subject?.digest
    const tags = tagsOfPush(push)
    const image = reading.image ?? unwrapped.images[0]?.reading.image
    const build = readBuild(manifest, reading.image)
    const { buildId, deployments } = await this.#db.transaction(async (tx) => {
      const madeBlobs = unwrapped.images.flatMap((made) => made.manifest.blobs)
      const contents = await lockContentsOf(tx, push.repository, manifest, madeBlobs)
      if (contents.provenance === 'required') assertProvenance(manifest, image, tags)
      const repositoryId =
        contents.repositoryId ?? (await ensureRepository(tx, push.repository, this.#visibility))
      if (tags.length === 0 && push.precondition.kind !== 'none') {
        const exists = await lockManifest(tx, repositoryId, digest)
        assertPrecondition(push.precondition, exists ? digest : undefined)
      }
      if (subject !== undefined) {
        await assertWithinBounds(
          tx,
          { repositoryId, kind: 'manifest', digest: subject },
          push.bounds,
        )
      }
      const { mediaType, artifactType, annotations } = manifest
      const { isNew, changesMediaType, blobs } = await putManifest(tx, {
        repositoryId,
        digest,
        mediaType,
        artifactType,
        subject,
        annotations,
        bytes: push.bytes,
        repository: push.repository,
        tags,
        actor: push.actor,
        blobIds: blobsOf(manifest, contents).map(({ id }) => id),
        children: contents.children.map((child) => child.digest),
        analyzerVersion: ANALYZER_VERSION,
        unwrapping: unwrapped,
      })
      if (blobs < blobsOf(manifest, contents).length) throw blobsRemoved()
      if (changesMediaType) {
        await assertMediaTypeFree(tx, { repositoryId, kind: 'manifest', digest }, push.bounds)
      }
      await recordImage(tx, repositoryId, digest, reading)
      const built =
        build &&
        (await recordPushedBuild(
          tx,
          {
            ...push,
            ...{ buildId: push.buildId, mayBeCopy: push.isMade !== true, repositoryId, digest },
          },
          build,
        ))
      const made = await recordUnwrapped(
        tx,
        { ...push, buildId: push.buildId, repositoryId, digest },
        unwrapped,
        contents,
      )
      await push.inTransaction?.(tx, digest)
      // Only the move returns the digest that it replaced. A forbidden move rolls the transaction back.
      const moves =
        tags.length === 0 ? [] : await moveTags(tx, repositoryId, tags, digest, push.actor.name)
      for (const move of moves) {
        assertPrecondition(push.precondition, move.previous ?? undefined)
        if (move.previous !== digest) assertTagMutable(move)
        // The setting may have changed while the push waited for the tag.
        if (move.provenance === 'required') assertProvenance(manifest, image, tags)
      }
      const moved = moves.filter(({ previous }) => previous !== digest)
      const change = { repositoryId, repository: push.repository, digest }
      await recordPush(tx, {
        ...change,
        mediaType,
        artifactType: artifactType ?? null,
        size: push.bytes.length,
        subject,
        mayHaveUnikernels: image !== undefined || manifest.children.length > 0,
        actor: push.actor.name,
        isNew,
        moves: moved,
        builds: [...(built?.event === undefined ? [] : [built.event]), ...made.events],
      })
      const cause = { ...change, kind: 'push', actor: push.actor } as const
      return {
        buildId: built?.id ?? made.id,
        deployments: await createDeployments(tx, cause, moved),
      }
    })
    this.#onCommitted()
    return { digest, subject, image, inputId: build?.inputId, buildId, deployments }
  }

  /**
   * end-9: removes a tag, or a manifest with all of its tags. Returns both. Throws NAME_UNKNOWN, MANIFEST_UNKNOWN,
   * PRECONDITION_FAILED, and DENIED for a tag that is immutable or that the actor may not remove, and for a
   * part of the image of another tag.
   */
  async remove(removal: ManifestRemoval): Promise<RemovedManifest> {
    const { repository, reference, actor, precondition } = removal
    const removed = await this.#db.transaction(async (tx) => {
      const repositoryId = await holdRepository(tx, repository)
      if (repositoryId === undefined) throw new RegistryError('NAME_UNKNOWN', { name: repository })
      if (reference.kind === 'tag') {
        const { tag } = reference
        const gone = await removeTag(tx, repositoryId, tag, actor.name)
        if (gone === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: tag })
        assertPrecondition(precondition, gone.previous)
        assertTagMutable(gone)
        const change = { action: 'delete-tag', repository, tags: [tag], digest: gone.previous }
        await recordChange(tx, actor, change)
        await recordRemoval(tx, { repositoryId, repository, actor: actor.name, gone: [gone] })
        await notifyOpenDeployments(tx, repositoryId, [tag])
        return { digest: gone.previous, tags: [tag] }
      }
      const { digest } = reference
      // Locks the manifest before its tags, as a push does, so that the two cannot deadlock.
      if (!(await lockManifest(tx, repositoryId, digest))) {
        throw new RegistryError('MANIFEST_UNKNOWN', { reference: digest })
      }
      assertPrecondition(precondition, digest)
      const gone = await removeTagsOf(tx, repositoryId, digest, actor.name)
      assertTagsRemovable(gone, removal)
      await assertPartRemovable(tx, { repositoryId, kind: 'manifest', digest }, removal.bounds)
      await keepTaggedUnwrapped(tx, repositoryId, digest)
      await touchBlobsOf(tx, repositoryId, digest)
      await removeManifest(tx, repositoryId, digest)
      const tags = gone.map(({ tag }) => tag)
      await recordChange(tx, actor, { action: 'delete-manifest', repository, tags, digest })
      await recordRemoval(tx, { repositoryId, repository, actor: actor.name, gone, digest })
      if (tags.length > 0) await notifyOpenDeployments(tx, repositoryId, tags)
      return { digest, tags }
    })
    this.#onCommitted()
    return removed
  }
}

function assertTagsRemovable(gone: readonly TagChange[], { bounds }: ManifestRemoval): void {
  for (const change of gone) {
    assertTagMutable(change)
    const { tag } = change
    if (bounds?.(tag) !== false) continue
    const message = `tag ${tag} is on this manifest, and this credential may not delete it`
    throw denied(message, { tag })
  }
}

function digestOfPush({ reference, bytes }: ManifestPush): Digest {
  if (reference.kind === 'tag') return digestOf(bytes)
  const digest = digestOf(bytes, algorithmOf(reference.digest))
  if (digest !== reference.digest) {
    throw otherContent(reference.digest, digest)
  }
  return digest
}

function tagsOfPush({ reference, tags }: ManifestPush): Tag[] {
  return [...new Set(reference.kind === 'tag' ? [reference.tag, ...tags] : tags)]
}
