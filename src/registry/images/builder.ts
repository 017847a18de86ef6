import type { Actor } from '../../db/auth/audit.ts'
import { type Descriptor, EMPTY_JSON } from '../../oci/descriptor.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { badRequest } from '../../oci/errors.ts'
import { IMAGE_MANIFEST, type MediaType } from '../../oci/media-type.ts'
import type { Repository, Tag } from '../../oci/reference.ts'
import {
  createdTime,
  type ImageFile,
  imageManifest,
  mediaTypeOf,
  NO_TIME,
  type Role,
  TITLE,
} from '../../unikernel/format.ts'
import {
  BUILD_ENVIRONMENT_BYTES_MAX,
  describeHost,
  parseBuildEnvironment,
} from '../../unikernel/host/build-environment.ts'
import type { ManifestPush, Manifests } from '../manifests.ts'
import type { Precondition } from '../precondition.ts'
import type { UploadBody } from '../uploads/hash-stream.ts'
import type { Uploads } from '../uploads/uploads.ts'
import type { ImageAnalyzer } from './analyzer.ts'

/** A file that comes for an image. */
export type IncomingImagePart = {
  readonly role: Role | 'config'
  readonly title: string
  readonly incoming: UploadBody
}

/** Where an image goes, and by whom. */
type Target = {
  readonly repository: Repository
  /** None: it is found by its digest alone. */
  readonly tags: readonly Tag[]
  readonly actor: Actor
  readonly condition: Precondition
  readonly within?: ManifestPush['inTransaction']
}

/** An image whose files come one after the other. */
export type IncomingImage = Target & {
  /** Each is read before the next is asked for. */
  readonly parts: AsyncIterable<IncomingImagePart>
  /** RFC 3339. Asked for after the last part; undefined: the time of the sources. */
  created(): string | undefined
}

/** One file, of which it is not said what it is. */
export type IncomingFile = Target & {
  readonly title: string
  readonly mediaType: MediaType
  readonly incoming: UploadBody
}

export type BuiltImage = {
  /** Of the manifest. */
  readonly digest: Digest
  readonly files: readonly ImageFile[]
}

/** Makes images of files that come in one request. */
export class ImageBuilder {
  readonly #uploads: Uploads
  readonly #manifests: Manifests
  readonly #reader: ImageAnalyzer

  constructor(uploads: Uploads, manifests: Manifests, reader: ImageAnalyzer) {
    this.#uploads = uploads
    this.#manifests = manifests
    this.#reader = reader
  }

  /**
   * Stores the files of an image and then its manifest, all or nothing as far as anybody can see: the
   * same manifest as `oras push` makes of them. Throws REQUEST_INVALID for a part too many or none,
   * and as `Uploads.receive` and `Manifests.put` do; then every tag is where it was.
   */
  async build(image: IncomingImage): Promise<BuiltImage> {
    const { repository, actor } = image
    const files: ImageFile[] = []
    let config: { digest: Digest; size: number } | undefined
    let sourceDateEpoch: number | undefined
    for await (const { role, title, incoming } of image.parts) {
      const taken =
        role === 'config' ? config !== undefined : files.some((one) => one.role === role)
      if (taken) throw badRequest(`there are two parts ${role}; an image has one`)
      const kept = role === 'build-environment' ? new Beginning(incoming) : incoming
      const blob = await this.#receive(repository, actor, kept)
      if (role === 'kernel' && blob.size === 0) throw badRequest('the kernel is empty')
      if (role === 'config') config = blob
      else files.push({ role, title, ...blob })
      if (kept instanceof Beginning) sourceDateEpoch = kept.sourceDateEpoch()
    }
    if (!files.some(({ role }) => role === 'kernel')) {
      throw badRequest('the part kernel is missing: send it with -F kernel=@FILE')
    }
    const created = image.created() ?? createdTime(sourceDateEpoch)
    return { files, digest: await this.#put(image, imageManifest({ files, config, created })) }
  }

  /**
   * Makes an image of one file: of a kernel a unikernel, of anything else an artifact of its media
   * type. Throws REQUEST_INVALID for an empty one, MANIFEST_INVALID for a kernel that is malformed.
   */
  async buildFromFile(file: IncomingFile): Promise<BuiltImage & { readonly blob: Descriptor }> {
    const { repository, title, mediaType, actor, incoming } = file
    const blob = await this.#receive(repository, actor, incoming)
    if (blob.size === 0) throw badRequest('the body is empty: send the file as it is')
    const files = [{ role: 'kernel' as const, title, ...blob }]
    const isKernel = await this.#reader.isKernel(repository, { ...blob, mediaType, title })
    const bytes = isKernel
      ? imageManifest({ files, config: undefined, created: NO_TIME })
      : artifactOfFile({ mediaType, ...blob }, title)
    const digest = await this.#put(file, bytes)
    return isKernel
      ? { digest, files, blob: { mediaType: mediaTypeOf('kernel'), ...blob } }
      : { digest, files: [], blob: { mediaType, ...blob } }
  }

  async #put(image: Target, bytes: Uint8Array): Promise<Digest> {
    const { repository, tags, actor, condition, within } = image
    const [first, ...others] = tags
    const { digest } = await this.#manifests.put({
      repository,
      reference:
        first === undefined
          ? { kind: 'digest', digest: digestOf(bytes) }
          : { kind: 'tag', tag: first },
      tags: others,
      contentType: IMAGE_MANIFEST,
      bytes,
      actor,
      precondition: condition,
      ...(within === undefined ? {} : { inTransaction: within }),
    })
    return digest
  }

  async #receive(
    repository: Repository,
    actor: Actor,
    incoming: UploadBody,
  ): Promise<{ digest: Digest; size: number }> {
    const { id } = await this.#uploads.start(repository, actor.name, 'sha256')
    const key = { id, repository, actor: actor.name }
    try {
      return await this.#uploads.uploadWhole(key, incoming)
    } catch (error) {
      // Nobody knows of the upload, so nobody could go on with it. It expires if this fails too.
      await this.#uploads.abandon(key).catch(() => {})
      throw error
    }
  }
}

/**
 * The manifest of an artifact that has one file. `title` stands where oras looks for the name under
 * which to save it. The same file makes the same artifact, whenever it comes.
 */
function artifactOfFile(file: Descriptor, title: string): Uint8Array {
  const { mediaType, digest, size } = file
  const artifact = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    artifactType: mediaType,
    config: {
      mediaType: 'application/vnd.oci.empty.v1+json',
      digest: digestOf(EMPTY_JSON),
      size: EMPTY_JSON.length,
    },
    layers: [{ mediaType, digest, size, annotations: { [TITLE]: title } }],
  }
  return Buffer.from(JSON.stringify(artifact))
}

/** Passes bytes on, and keeps the first of them. */
class Beginning implements UploadBody {
  readonly start = undefined
  readonly length: number | undefined
  readonly #incoming: UploadBody
  readonly #chunks: Uint8Array[] = []
  #size = 0

  constructor(incoming: UploadBody) {
    this.#incoming = incoming
    this.length = incoming.length
  }

  get bytes(): AsyncIterable<Uint8Array> {
    return this.#pass()
  }

  async *#pass(): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#incoming.bytes) {
      this.#size += chunk.length
      if (this.#size <= BUILD_ENVIRONMENT_BYTES_MAX) this.#chunks.push(Buffer.from(chunk))
      yield chunk
    }
  }

  /** Seconds; undefined when the environment does not say it. */
  sourceDateEpoch(): number | undefined {
    if (this.#size > BUILD_ENVIRONMENT_BYTES_MAX) return undefined
    return describeHost(parseBuildEnvironment(Buffer.concat(this.#chunks))).sourceDateEpoch
  }
}
