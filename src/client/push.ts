import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { forEachConcurrent } from '../async/for-each.ts'
import type { Digest } from '../oci/digest.ts'
import { IMAGE_MANIFEST } from '../oci/media-type.ts'
import type { Tag } from '../oci/reference.ts'
import { FileChangedError, RegistryResponseError } from './errors.ts'
import type { RemoteRepository } from './remote-repository.ts'
import type { Body } from './transport.ts'

/** A blob to push: bytes in memory, or a file that must not change meanwhile. */
export type LocalBlob = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** For messages and progress. */
  readonly title: string
  readonly from: { readonly path: string } | { readonly bytes: Uint8Array }
}

/** Receives the progress of a push. */
export type PushProgress = {
  /** Bytes sent; negative when an attempt starts over. */
  sent(bytes: number): void
  /** The repository has the blob; `sent` is false when it had it before. */
  done(blob: LocalBlob, sent: boolean): void
}

export type ImagePush = {
  readonly blobs: readonly LocalBlob[]
  readonly manifest: Uint8Array
  readonly digest: Digest
  /** Without tags the image is found by its digest alone. */
  readonly tags: readonly Tag[]
  /** The UUID of the build: repeated with the same one, a push is no second build. */
  readonly buildId: string
  readonly progress: PushProgress
}

export type PushedImage = {
  /** The id of the build that the registry recorded; undefined when it records none. */
  readonly build: string | undefined
  /** The paths of the deployments to the hosts that follow the tags. */
  readonly deployments: ReadonlyMap<Tag, string>
}

const BLOBS_AT_ONCE = 3
const READ_BYTES = 256 * 1024

/**
 * Pushes an image: the missing blobs, several at a time, and then the manifest, under one tag after the
 * other. Throws RegistryResponseError, RegistryUnreachableError and FileChangedError; what was pushed
 * until then stays.
 */
export async function pushImage(
  repository: RemoteRepository,
  push: ImagePush,
): Promise<PushedImage> {
  const blobs = new Map(push.blobs.map((blob) => [blob.digest, blob]))
  await forEachConcurrent([...blobs.values()], BLOBS_AT_ONCE, (blob) =>
    pushBlob(repository, blob, push.progress),
  )
  const { manifest, digest, buildId } = push
  const put = (reference: Tag | Digest) =>
    repository.putManifest(reference, IMAGE_MANIFEST, manifest, digest, buildId)
  if (push.tags.length === 0) return { build: (await put(digest)).build, deployments: new Map() }
  let recorded: string | undefined
  const deployments = new Map<Tag, string>()
  const set: Tag[] = []
  for (const tag of push.tags) {
    try {
      const stored = await put(tag)
      recorded = stored.build
      if (stored.deployment !== undefined) deployments.set(tag, stored.deployment)
    } catch (error) {
      throw set.length === 0 ? error : withTagsSet(error, set)
    }
    set.push(tag)
  }
  return { build: recorded, deployments }
}

async function pushBlob(
  repository: RemoteRepository,
  blob: LocalBlob,
  progress: PushProgress,
): Promise<void> {
  let counted = 0
  const count = (bytes: number) => {
    counted += bytes
    progress.sent(bytes)
  }
  const body: Body = {
    size: blob.size,
    // A renewed login opens the body of the same attempt again.
    open: () => {
      if (counted > 0) count(-counted)
      return Readable.from(counting(blob, count), { objectMode: false })
    },
  }
  progress.done(blob, await repository.putBlob(blob.digest, blob.title, body))
}

async function* counting(
  blob: LocalBlob,
  count: (bytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of 'bytes' in blob.from ? [blob.from.bytes] : bytesOf(blob, blob.from)) {
    yield chunk
    count(chunk.length)
  }
}

/** Reads `size` bytes. A file that grew is cut there; its digest decides whether it changed. */
async function* bytesOf(
  { size, title }: LocalBlob,
  { path }: { path: string },
): AsyncGenerator<Uint8Array> {
  if (size === 0) return
  let left = size
  try {
    for await (const chunk of createReadStream(path, {
      highWaterMark: READ_BYTES,
      end: size - 1,
    })) {
      left -= chunk.length
      yield chunk
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FileChangedError(`${title} became unreadable: ${reason}`, { cause })
  }
  if (left > 0) throw new FileChangedError(`${title} became shorter during the push: push it again`)
}

function withTagsSet(error: unknown, set: readonly Tag[]): unknown {
  if (!(error instanceof RegistryResponseError)) return error
  const { status, code, retryAfterSeconds } = error
  const message = `${error.message}; already set: ${set.join(', ')}`
  return new RegistryResponseError(message, { status, code, retryAfterSeconds })
}
