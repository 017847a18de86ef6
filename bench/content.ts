/** The content of pushes and pulls: the same bytes for every server, and a new blob in every push. */
import { createCipheriv, createHash, type Hash, randomBytes } from 'node:crypto'

export const MIB = 1024 * 1024
const BASE_BYTES = 16 * MIB
const CHUNK_BYTES = 256 * 1024
const MARK_BYTES = 16

export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json'

export interface Content {
  digest: string
  length: number
  chunks: Iterable<Buffer>
}

/** Random bytes that are the same in every process. */
const base = createCipheriv('aes-128-ctr', 'rookery bench 16', Buffer.alloc(16)).update(
  Buffer.alloc(BASE_BYTES),
)
const hashes = new Map<number, Hash>()

export function digestOf(bytes: Buffer | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function* bodyChunks(length: number): Generator<Buffer> {
  for (let at = 0; at < length; ) {
    const start = at % BASE_BYTES
    const end = Math.min(start + CHUNK_BYTES, start + length - at, BASE_BYTES)
    yield base.subarray(start, end)
    at += end - start
  }
}

/**
 * Returns a blob of `length` bytes that ends with `mark`. The shared part is hashed once per length (call
 * `blobContent` before the measurement), so a further blob costs the client a copy of that hash.
 */
export function blobContent(length: number, mark: Buffer): Content {
  let hash = hashes.get(length)
  if (!hash) {
    hash = createHash('sha256')
    for (const chunk of bodyChunks(length - MARK_BYTES)) hash.update(chunk)
    hashes.set(length, hash)
  }
  const digest = `sha256:${hash.copy().update(mark).digest('hex')}`
  function* chunks() {
    yield* bodyChunks(length - MARK_BYTES)
    yield mark
  }
  return { digest, length, chunks: { [Symbol.iterator]: chunks } }
}

/** The mark of the blobs that are pushed first, for the pulls. */
export const SEED_MARK = Buffer.alloc(MARK_BYTES, 'seed')

const own = randomBytes(MARK_BYTES - 4)
let count = 0

/** Returns a mark that no other blob has. */
export function nextMark(): Buffer {
  const mark = Buffer.alloc(MARK_BYTES)
  own.copy(mark)
  mark.writeUInt32BE(++count, MARK_BYTES - 4)
  return mark
}

export function textContent(text: string): Content {
  const bytes = Buffer.from(text)
  return { digest: digestOf(bytes), length: bytes.length, chunks: [bytes] }
}

/** Returns the config of an image with the one layer `layer`. */
function configOf({ digest }: Content): Content {
  return textContent(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digest] },
    }),
  )
}

/** Returns the config and manifest of an image with the one layer `layer`. Each `title` gives another manifest. */
export function imageContent(
  layer: Content,
  { title = 'bench', config = configOf(layer) } = {},
): { config: Content; manifest: Content } {
  const descriptor = (mediaType: string, { digest, length }: Content) => ({
    mediaType,
    digest,
    size: length,
  })
  const manifest = textContent(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MANIFEST_TYPE,
      config: descriptor('application/vnd.oci.image.config.v1+json', config),
      layers: [descriptor('application/vnd.oci.image.layer.v1.tar', layer)],
      annotations: { 'org.opencontainers.image.title': title },
    }),
  )
  return { config, manifest }
}
