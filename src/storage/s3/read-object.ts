import type { IncomingMessage } from 'node:http'
import { GetObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { BlobMissingError, type ByteRange, StoreUnavailableError } from '../blob-store.ts'
import { CONNECTIONS_MAX, call, ObjectMissingError } from './client.ts'

/** Limit of consecutive resumes without a byte in between. */
const RESUMES_MAX = 3

export type ReadOptions = {
  readonly client: S3Client
  readonly object: { readonly Bucket: string; readonly Key: string }
  readonly key: string
  readonly timeoutSeconds: number
}

/**
 * Reads the bytes of `range`. When the connection breaks, another one resumes at the same byte. Throws
 * BlobMissingError, also for an object that is shorter than the range.
 *
 * A client that reads slowly does not hold a connection to the store: the first downloads are streams, and one whose
 * client pauses continues in windows, as the other downloads do. A window is in memory before the client gets it.
 */
export async function* readObject(
  options: ReadOptions,
  { start, end }: ByteRange,
): AsyncGenerator<Uint8Array> {
  let position = start
  if (end - start >= WINDOW_BYTES_MIN && streams < STREAMS_MAX) {
    streams += 1
    try {
      for await (const chunk of stream(options, { start, end }, PAUSE_MILLISECONDS_MAX)) {
        position += chunk.length
        yield chunk
      }
    } finally {
      streams -= 1
    }
  }
  if (position > end) return
  windows += 1
  try {
    while (position <= end) {
      const last = Math.min(end, position + windowBytes() - 1)
      const window = await readWindow(options, { start: position, end: last })
      position += window.length
      yield window
    }
  } finally {
    windows -= 1
  }
}

/** Downloads that may hold a connection while their clients read: two thirds of the connections. */
const STREAMS_MAX = Math.floor((CONNECTIONS_MAX * 2) / 3)
/** A client that takes longer for one chunk loses its stream. */
const PAUSE_MILLISECONDS_MAX = 2_000
/** Memory of all windows, while each has more than its minimum. */
const WINDOWS_BYTES = 32 * 1024 * 1024
const WINDOW_BYTES_MIN = 64 * 1024
const WINDOW_BYTES_MAX = 1024 * 1024

let streams = 0
let windows = 0

/** Returns the size of the next window: the share of one download. */
function windowBytes(): number {
  const share = Math.floor(WINDOWS_BYTES / windows)
  return Math.min(WINDOW_BYTES_MAX, Math.max(WINDOW_BYTES_MIN, share))
}

async function readWindow(options: ReadOptions, range: ByteRange): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream(options, range)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Yields the bytes as they arrive. Ends early when the consumer takes longer than `pauseMilliseconds` for a chunk. */
async function* stream(
  options: ReadOptions,
  { start, end }: ByteRange,
  pauseMilliseconds?: number,
): AsyncGenerator<Uint8Array> {
  let position = start
  let resumes = 0
  while (position <= end) {
    const body = await open(options, position, end)
    let isPaused = false
    const pause = () => {
      isPaused = true
      body.destroy()
    }
    try {
      for await (const chunk of body) {
        position += (chunk as Uint8Array).length
        resumes = 0
        const timer =
          pauseMilliseconds === undefined ? undefined : setTimeout(pause, pauseMilliseconds)
        try {
          yield chunk as Uint8Array
        } finally {
          clearTimeout(timer)
        }
        if (isPaused) return
      }
    } catch (cause) {
      resumes += 1
      if (resumes > RESUMES_MAX) {
        throw new StoreUnavailableError('the object store ended a download early', { cause })
      }
      continue
    } finally {
      body.destroy()
    }
    if (position <= end) throw missing(options.key)
  }
}

async function open(
  { client, object, key, timeoutSeconds }: ReadOptions,
  start: number,
  end: number,
): Promise<IncomingMessage> {
  const command = new GetObjectCommand({ ...object, Range: `bytes=${start}-${end}` })
  try {
    const { Body } = await call(timeoutSeconds, (abort) => client.send(command, abort))
    return Body as IncomingMessage
  } catch (error) {
    if (error instanceof ObjectMissingError) throw missing(key, error)
    throw error
  }
}

function missing(key: string, cause?: unknown): BlobMissingError {
  return new BlobMissingError(`storage has no ${key}`, { cause })
}
