import { Readable } from 'node:stream'
import type { Actor } from '../../db/auth/audit.ts'
import { type Descriptor, EMPTY_JSON } from '../../oci/descriptor.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { badRequest, RegistryError } from '../../oci/errors.ts'
import { parseRepositoryGlob } from '../../oci/glob.ts'
import { IMAGE_MANIFEST, type MediaType } from '../../oci/media-type.ts'
import type { Reference, Repository, Tag } from '../../oci/reference.ts'
import { mayBeKernel, NO_NOTES } from '../../unikernel/declared-kernel.ts'
import {
  createdTime,
  failedBuildManifest,
  type ImageFile,
  imageManifest,
  mediaTypeOf,
  NO_TIME,
  type Role,
  TITLE,
} from '../../unikernel/format.ts'
import {
  BUILD_ENVIRONMENT_BYTES_MAX,
  findSourceDateEpoch,
} from '../../unikernel/host/build-environment.ts'
import { describeFormat, recognizeFile } from '../../unikernel/kernel/file-format.ts'
import { describeLikeness, HEAD_BYTES, recognizePart } from '../../unikernel/likeness.ts'
import { listWarnings } from '../../unikernel/validation.ts'
import type { Blobs } from '../blobs.ts'
import type { ManifestPush, Manifests, PushedManifest } from '../manifests.ts'
import type { Precondition } from '../precondition.ts'
import type { TagBounds } from '../tag-bounds.ts'
import type { UploadBody } from '../uploads/hash-stream.ts'
import type { Uploads } from '../uploads/uploads.ts'
import type { ImageAnalyzer } from './analyzer.ts'

const EMPTY_DIGEST = digestOf(EMPTY_JSON)
const ANY = parseRepositoryGlob('**')
const TITLE_SHOWN_MAX = 80

/** A file of an image in a request. */
export type IncomingImagePart = {
  readonly role: Role | 'config'
  readonly title: string
  readonly body: UploadBody
}

/** The destination of an image, and its pusher. */
export type Destination = {
  readonly repository: Repository
  /** Without tags the image is found by its digest alone. */
  readonly tags: readonly Tag[]
  readonly actor: Actor
  readonly precondition: Precondition
  /** The tags that the actor may push. */
  readonly bounds: TagBounds
  /** The id that the client chose for the build. */
  readonly buildId?: string | undefined
  readonly inTransaction?: ManifestPush['inTransaction']
}

/** An image in one request: its files arrive one after the other. */
export type IncomingImage = Destination & {
  /** Each part is read before the next is requested. */
  readonly parts: AsyncIterable<IncomingImagePart>
  /** RFC 3339. Called after the last part; undefined: the time of the sources. */
  created(): string | undefined
  /** Returns what the sender says of the build, after the last part. */
  annotations(): Readonly<Record<string, string>>
  /** True for the report of a failed build, which has no kernel. */
  readonly isFailure: boolean
}

/** One file without a role. */
export type IncomingFile = Destination & {
  readonly title: string
  readonly mediaType: MediaType
  readonly body: UploadBody
}

/** Stores the bytes of a file in the repository. */
export type StoreFile = (body: UploadBody) => Promise<{ digest: Digest; size: number }>

export type BuiltImage = {
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly files: readonly ImageFile[]
  /** For each tag that it moved and that units of hosts follow. */
  readonly deployments: PushedManifest['deployments']
}

/** An image of a form, with what its sender should know. */
export type FormImage = BuiltImage & {
  readonly inputId: string | undefined
  /** Undefined when the push states no build. */
  readonly buildId: string | undefined
  /** Such as parts that look like another part. */
  readonly warnings: readonly string[]
}

export type ImageBuilderOptions = {
  readonly blobs: Blobs
  readonly uploads: Uploads
  readonly manifests: Manifests
  readonly analyzer: ImageAnalyzer
}

/** Builds images from the files of one request. */
export class ImageBuilder {
  readonly #blobs: Blobs
  readonly #uploads: Uploads
  readonly #manifests: Manifests
  readonly #analyzer: ImageAnalyzer

  constructor({ blobs, uploads, manifests, analyzer }: ImageBuilderOptions) {
    this.#blobs = blobs
    this.#uploads = uploads
    this.#manifests = manifests
    this.#analyzer = analyzer
  }

  /**
   * Stores the files of an image and then its manifest, the same manifest as `oras push` makes of them.
   * The image is visible completely or not at all. Throws REQUEST_INVALID for duplicate or missing parts,
   * and as `Uploads.uploadWhole` and `Manifests.put` do; then no tag has moved.
   */
  async build(image: IncomingImage): Promise<FormImage> {
    return this.#withdrawingOnFailure(image, (received) => this.#build(image, received))
  }

  /**
   * Stores files and then their manifest: `make` passes each file to `store`, and returns the manifest and its tags. Throws
   * as `build`.
   */
  async buildFromFiles(
    destination: Omit<Destination, 'tags'>,
    make: (store: StoreFile) => Promise<{ manifest: Uint8Array; tags: readonly Tag[] }>,
  ): Promise<PushedManifest> {
    return this.#withdrawingOnFailure(destination, async (received) => {
      const { manifest, tags } = await make((body) => this.#receive(destination, body, received))
      return this.#put({ ...destination, tags }, manifest)
    })
  }

  async #build(image: IncomingImage, received: Digest[]): Promise<FormImage> {
    const files: ImageFile[] = []
    let config: { digest: Digest; size: number } | undefined
    let sourceDateEpoch: number | undefined
    for await (const { role, title, body: incoming } of image.parts) {
      const isDuplicate =
        role === 'config' ? config !== undefined : files.some((one) => one.role === role)
      if (isDuplicate) throw badRequest(`the part ${role} is given twice`)
      const keptBytes = KEPT_BYTES[role]
      const body = keptBytes === undefined ? incoming : new BufferedBody(incoming, keptBytes)
      const blob = await this.#receive(image, body, received)
      if (role === 'kernel' && image.isFailure) {
        throw badRequest('a failed build has no kernel: push an image instead')
      }
      if (role === 'kernel' && blob.size === 0) throw badRequest('the kernel is empty')
      if (role === 'config') config = blob
      else files.push({ role, title, ...blob })
      if (!(body instanceof BufferedBody)) continue
      if (role === 'kernel') assertKernel(title, body.head)
      else sourceDateEpoch = body.sourceDateEpoch()
    }
    if (image.isFailure && files.length === 0) {
      throw badRequest('the report has no file: send at least the console with -F console=@FILE')
    }
    if (!image.isFailure && !files.some(({ role }) => role === 'kernel')) {
      throw badRequest('the part kernel is missing: send it with -F kernel=@FILE')
    }
    if (config === undefined) await this.#ensureEmptyJson(image, received)
    const created = image.created() ?? createdTime(sourceDateEpoch)
    const contents = { files, config, created, annotations: image.annotations() }
    const bytes = image.isFailure ? failedBuildManifest(contents) : imageManifest(contents)
    const { digest, image: found, buildId, inputId, deployments } = await this.#put(image, bytes)
    return {
      files,
      digest,
      buildId,
      inputId,
      deployments,
      warnings: found ? listWarnings(found) : [],
    }
  }

  /**
   * Builds an image from one file: a unikernel from a kernel, and an artifact of its media type from any
   * other file. Throws REQUEST_INVALID for an empty file, and MANIFEST_INVALID for a malformed kernel.
   */
  async buildFromFile(file: IncomingFile): Promise<BuiltImage & { readonly blob: Descriptor }> {
    return this.#withdrawingOnFailure(file, (received) => this.#buildFromFile(file, received))
  }

  async #buildFromFile(
    file: IncomingFile,
    received: Digest[],
  ): Promise<BuiltImage & { readonly blob: Descriptor }> {
    const { repository, title, mediaType, body } = file
    const blob = await this.#receive(file, body, received)
    if (blob.size === 0) throw badRequest('the body is empty: it must be the file')
    const files = [{ role: 'kernel' as const, title, ...blob }]
    const isKernel = await this.#analyzer.isKernel(repository, { ...blob, mediaType, title })
    const bytes = isKernel
      ? imageManifest({ files, config: undefined, created: NO_TIME })
      : artifactOfFile({ mediaType, ...blob }, title)
    await this.#ensureEmptyJson(file, received)
    const { digest, deployments } = await this.#put(file, bytes)
    return isKernel
      ? { digest, files, deployments, blob: { mediaType: mediaTypeOf('kernel'), ...blob } }
      : { digest, files: [], deployments, blob: { mediaType, ...blob } }
  }

  async #put(image: Destination, bytes: Uint8Array): Promise<PushedManifest> {
    const { repository, tags, actor, precondition, bounds, buildId, inTransaction } = image
    const [first, ...others] = tags
    const push = {
      repository,
      reference: referenceOf(first, bytes),
      tags: others,
      contentType: IMAGE_MANIFEST,
      bytes,
      actor,
      precondition,
      bounds,
      buildId,
      isMade: true,
      ...(inTransaction === undefined ? {} : { inTransaction }),
    } satisfies ManifestPush
    try {
      return await this.#manifests.put(push)
    } catch (error) {
      throw ofImage(error)
    }
  }

  /** Runs `push`. When it fails, the repository loses the blobs that it received for the first time. */
  async #withdrawingOnFailure<T>(
    { repository }: Pick<Destination, 'repository'>,
    push: (received: Digest[]) => Promise<T>,
  ): Promise<T> {
    const received: Digest[] = []
    try {
      return await push(received)
    } catch (error) {
      // If this fails too, the blobs stay for the grace period.
      if (received.length > 0) {
        await this.#uploads.withdraw(repository, received).catch(() => {})
      }
      throw error
    }
  }

  /** Gives the repository the blob of the empty config, from any other repository when one has it. */
  async #ensureEmptyJson(destination: Destination, received: Digest[]): Promise<void> {
    const { repository, actor } = destination
    const mounted = await this.#blobs.mount(repository, EMPTY_DIGEST, undefined, [ANY], actor)
    if (mounted === undefined) await this.#receive(destination, emptyJson(), received)
    else if (mounted.isNew) received.push(EMPTY_DIGEST)
  }

  /** Stores a file, and adds its digest to `received` when the repository did not have it. */
  async #receive(
    { repository, actor }: Pick<Destination, 'repository' | 'actor'>,
    body: UploadBody,
    received: Digest[],
  ): Promise<{ digest: Digest; size: number }> {
    const { id } = await this.#uploads.startSingleRequest(repository, actor)
    const key = { id, repository, actor }
    try {
      const { digest, size, isNew } = await this.#uploads.uploadWhole(key, body)
      if (isNew) received.push(digest)
      return { digest, size }
    } catch (error) {
      // No client knows the id of this upload. If abandoning fails too, the upload expires.
      await this.#uploads.abandon(key).catch(() => {})
      throw error
    }
  }
}

/**
 * Makes the manifest of an artifact with one file. oras saves the file under `title`. The same file
 * always makes the same manifest.
 */
function artifactOfFile(file: Descriptor, title: string): Uint8Array {
  const { mediaType, digest, size } = file
  const artifact = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    artifactType: mediaType,
    config: {
      mediaType: 'application/vnd.oci.empty.v1+json',
      digest: EMPTY_DIGEST,
      size: EMPTY_JSON.length,
    },
    layers: [{ mediaType, digest, size, annotations: { [TITLE]: title } }],
  }
  return Buffer.from(JSON.stringify(artifact))
}

function emptyJson(): UploadBody {
  return { start: undefined, length: EMPTY_JSON.length, bytes: Readable.from([EMPTY_JSON]) }
}

/** Streams a body, and keeps its first bytes. */
class BufferedBody implements UploadBody {
  readonly start = undefined
  readonly length: number | undefined
  readonly #incoming: UploadBody
  readonly #bytesMax: number
  readonly #chunks: Uint8Array[] = []
  #size = 0

  constructor(incoming: UploadBody, bytesMax: number) {
    this.#incoming = incoming
    this.#bytesMax = bytesMax
    this.length = incoming.length
  }

  get bytes(): AsyncIterable<Uint8Array> {
    return this.#stream()
  }

  async *#stream(): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#incoming.bytes) {
      const left = this.#bytesMax - this.#size
      if (left > 0) this.#chunks.push(Buffer.from(chunk.subarray(0, left)))
      this.#size += chunk.length
      yield chunk
    }
  }

  /** The first bytes. */
  get head(): Uint8Array {
    return Buffer.concat(this.#chunks)
  }

  /** Seconds; undefined when the build environment does not set it. */
  sourceDateEpoch(): number | undefined {
    return this.#size > this.#bytesMax ? undefined : findSourceDateEpoch(this.head)
  }
}

/** How many first bytes of a part are kept to look at. */
const KEPT_BYTES: Readonly<Partial<Record<IncomingImagePart['role'], number>>> = {
  'build-environment': BUILD_ENVIRONMENT_BYTES_MAX,
  kernel: HEAD_BYTES,
}

/** Throws MANIFEST_INVALID for a part that is no kernel of any target, with what it is. */
function assertKernel(title: string, head: Uint8Array): void {
  const { format } = recognizeFile(head)
  const recognized = recognizePart(head)
  const part = recognized === 'kernel' ? undefined : recognized
  if (part === undefined && mayBeKernel(format)) return
  const found =
    part === undefined
      ? describeFormat(format)
      : `${describeLikeness(part)}: send it with -F ${part}=@FILE`
  const message = `the part kernel: ${title.slice(0, TITLE_SHOWN_MAX)} is not a kernel: ${NO_NOTES}; ${found}`
  throw new RegistryError('MANIFEST_INVALID', { part: 'kernel' }, { message })
}

function referenceOf(tag: Tag | undefined, bytes: Uint8Array): Reference {
  return tag === undefined ? { kind: 'digest', digest: digestOf(bytes) } : { kind: 'tag', tag }
}

/** Says to the sender of a form what is wrong with the image: it sent no manifest. */
function ofImage(error: unknown): unknown {
  if (!(error instanceof RegistryError) || error.code !== 'MANIFEST_INVALID') return error
  const message = error.message.replace(/^manifest invalid: /, 'image invalid: ')
  return new RegistryError('MANIFEST_INVALID', error.detail, { message, cause: error })
}
