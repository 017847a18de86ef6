import { type Descriptor, EMPTY_JSON } from '../oci/descriptor.ts'
import { type Digest, digestOf } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { IMAGE_MANIFEST, type MediaType } from '../oci/media-type.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { ManifestPush, Manifests } from './manifests.ts'
import type { Incoming } from './transfer.ts'
import type { Uploads } from './uploads.ts'
import type { Actor } from './view.ts'

/** A file that comes in one request, and the tag that is to show its image. */
export type IncomingFile = {
  readonly repository: Repository
  readonly tag: Tag
  readonly title: string
  readonly mediaType: MediaType
  readonly incoming: Incoming
  readonly actor: Actor
  readonly within: NonNullable<ManifestPush['within']>
}

export type ReceivedFile = {
  /** Of the manifest. */
  readonly digest: Digest
  readonly blob: Descriptor
}

/**
 * Makes an image of a file, and moves the tag to it. Throws REQUEST_INVALID for an empty one, and as
 * `Uploads.receive` and `Manifests.put` do; then the tag is where it was.
 */
export async function receiveFile(
  uploads: Uploads,
  manifests: Manifests,
  file: IncomingFile,
): Promise<ReceivedFile> {
  const { repository, tag, title, mediaType, actor, within } = file
  const blob = { mediaType, ...(await receiveBlob(uploads, file)) }
  const { digest } = await manifests.put({
    repository,
    reference: { kind: 'tag', tag },
    tags: [],
    contentType: IMAGE_MANIFEST,
    bytes: imageOfFile(blob, title),
    actor,
    condition: { kind: 'none' },
    within,
  })
  return { digest, blob }
}

/**
 * The manifest of an image that has one file. `title` stands where oras looks for the name under
 * which to save it. The same file makes the same image, whenever it comes.
 */
export function imageOfFile(file: Descriptor, title: string): Uint8Array {
  const { mediaType, digest, size } = file
  const annotations = { 'org.opencontainers.image.title': title }
  const image = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    artifactType: mediaType,
    config: EMPTY,
    layers: [{ mediaType, digest, size, annotations }],
  }
  return Buffer.from(JSON.stringify(image))
}

const EMPTY = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: digestOf(EMPTY_JSON),
  size: EMPTY_JSON.length,
}

async function receiveBlob(
  uploads: Uploads,
  { repository, actor, incoming }: IncomingFile,
): Promise<{ digest: Digest; size: number }> {
  const { id } = await uploads.start(repository, actor.name, 'sha256')
  const key = { id, repository, actor: actor.name }
  try {
    return await uploads.receive(key, { ...incoming, bytes: someBytes(incoming.bytes) })
  } catch (error) {
    // Nobody knows of the upload, so nobody could go on with it. It expires if this fails too.
    await uploads.abandon(key).catch(() => {})
    throw error
  }
}

async function* someBytes(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let size = 0
  for await (const chunk of bytes) {
    size += chunk.length
    yield chunk
  }
  if (size > 0) return
  const message = 'the body is empty: send the file as it is'
  throw new OciError('REQUEST_INVALID', undefined, { message })
}
