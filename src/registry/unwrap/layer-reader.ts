import { decompress } from '../../archives/decompress.ts'
import { readTar } from '../../archives/tar.ts'
import type { AnalyzedBlobRow } from '../../db/images/layer-analyses.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import type { KernelFile, LayerFiles } from '../../unikernel/container/layer-files.ts'
import { LayerFilesBuilder } from '../../unikernel/container/layer-files.ts'
import { withStoreErrors } from '../store-errors.ts'

/** How much of the layers one unwrapping may read. */
export type ReadBudget = {
  /** Bytes of layers that were not read before, as they are stored. */
  storedBytesLeft: number
  /** Bytes of one layer when it is decompressed. */
  readonly layerBytesMax: number
  /** False when a layer that exceeds it is read later with another budget. */
  readonly isLast: boolean
  readonly signal: AbortSignal
}

// The largest real layers have some 200 000 entries.
const ENTRIES_MAX = 1_000_000

/** Reads the facts about the files of a layer. Throws ArchiveError, BlobMissingError, and UNAVAILABLE. */
export async function readLayerFiles(
  store: BlobStore,
  row: AnalyzedBlobRow,
  { layerBytesMax: bytesMax, signal }: ReadBudget,
): Promise<LayerFiles> {
  const builder = new LayerFilesBuilder()
  const bytes = decompress(storedBytes(store, row), { bytesMax, signal })
  await readTar(bytes, { entriesMax: ENTRIES_MAX }, (entry) => builder.add(entry))
  return builder.finish()
}

/** Streams the bytes of a kernel in a layer. Throws as `readLayerFiles`. */
export async function* kernelBytes(
  store: BlobStore,
  row: AnalyzedBlobRow,
  { offset, size }: KernelFile,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const end = offset + size
  let at = 0
  for await (const chunk of decompress(storedBytes(store, row), { bytesMax: Infinity, signal })) {
    const part = chunk.subarray(Math.max(0, offset - at), Math.max(0, end - at))
    at += chunk.length
    if (part.length > 0) yield part
    if (at >= end) return
  }
}

function storedBytes(
  store: BlobStore,
  { storageKey, size }: AnalyzedBlobRow,
): AsyncIterable<Uint8Array> {
  return size === 0
    ? nothing()
    : withStoreErrors(store.read(storageKey, { start: 0, end: size - 1 }))
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
