import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import type { Digest } from '../oci/digest.ts'
import { IMAGE_MANIFEST } from '../oci/media-type.ts'
import type { Tag } from '../oci/reference.ts'
import { FileChangedError, RegistryResponseError } from './errors.ts'
import type { RemoteRepository } from './remote-repository.ts'
import type { Body } from './transport.ts'

/** A blob to push: bytes in memory, or a file that stays as it is meanwhile. */
export type LocalBlob = {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** For messages and for whoever watches. */
  readonly title: string
  readonly from: { readonly path: string } | { readonly bytes: Uint8Array }
}

/** Hears how a push goes. */
export type PushProgress = {
  /** Bytes on their way; less than 0 when an attempt begins anew. */
  sent(bytes: number): void
  /** It is there now; `sent` is false when it was there before. */
  done(blob: LocalBlob, sent: boolean): void
}

export type ImagePush = {
  readonly blobs: readonly LocalBlob[]
  readonly manifest: Uint8Array
  readonly digest: Digest
  readonly tags: readonly Tag[]
  readonly progress: PushProgress
}

const BLOBS_AT_ONCE = 3
const READ_BYTES = 256 * 1024

/**
 * Pushes an image: blobs that lack, several at a time, and when all are there the manifest, under one
 * tag after the other. Throws RegistryResponseError, RegistryUnreachableError and FileChangedError; what is there then
 * stays.
 */
export async function pushImage(repository: RemoteRepository, push: ImagePush): Promise<void> {
  const blobs = new Map(push.blobs.map((blob) => [blob.digest, blob]))
  const left = blobs.values()
  const failures: unknown[] = []
  const work = async () => {
    for (const blob of left) {
      if (failures.length > 0) return
      try {
        await pushBlob(repository, blob, push.progress)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  // An iterator that workers share gives each blob to one of them.
  await Promise.all(Array.from({ length: BLOBS_AT_ONCE }, work))
  if (failures.length > 0) throw failures[0]
  const set: Tag[] = []
  for (const tag of push.tags) {
    try {
      await repository.putManifest(tag, IMAGE_MANIFEST, push.manifest, push.digest)
    } catch (error) {
      throw set.length === 0 ? error : withTagsSet(error, set)
    }
    set.push(tag)
  }
}

async function pushBlob(
  repository: RemoteRepository,
  blob: LocalBlob,
  watcher: PushProgress,
): Promise<void> {
  let counted = 0
  const count = (bytes: number) => {
    counted += bytes
    watcher.sent(bytes)
  }
  const body: Body = {
    size: blob.size,
    // A login that is renewed in the middle opens the same attempt's body again.
    open: () => {
      if (counted > 0) count(-counted)
      return Readable.from(counting(blob, count), { objectMode: false })
    },
  }
  watcher.done(blob, await repository.putBlob(blob.digest, blob.title, body))
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

/** As many bytes as the file had. A file that grew is cut there, and its digest says the rest. */
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
    throw new FileChangedError(`${title} cannot be read any more: ${reason}`, { cause })
  }
  if (left > 0)
    throw new FileChangedError(`${title} became shorter while it was pushed: push it again`)
}

function withTagsSet(error: unknown, set: readonly Tag[]): unknown {
  if (!(error instanceof RegistryResponseError)) return error
  const { status, code, retryAfterSeconds } = error
  const message = `${error.message}; already set: ${set.join(', ')}`
  return new RegistryResponseError(message, { status, code, retryAfterSeconds })
}
