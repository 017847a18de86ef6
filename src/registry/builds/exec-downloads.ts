import type { View } from '../../db/registry/repositories.ts'
import type { Digest } from '../../oci/digest.ts'
import { parseDigest } from '../../oci/digest.ts'
import { notFound } from '../../oci/errors.ts'
import { DerStream } from '../../unikernel/exec/der-stream.ts'
import { execPrefix, outputPrefix, readHead, readOutputs } from '../../unikernel/exec/read-exec.ts'
import type { Blob, Blobs } from '../blobs.ts'
import type { BuildFiles } from './job-builds.ts'

/** An exec as builder sent it. */
export type StoredExecBytes = {
  /** In bytes. */
  readonly length: number
  bytes(): AsyncGenerator<Uint8Array>
}

/**
 * Returns the exec of a build, byte for byte as builder sent it in the shortest form of DER. Throws NOT_FOUND for a build that
 * did not come from builder, and BLOB_UNKNOWN.
 */
export async function findExec(
  blobs: Blobs,
  view: View,
  { build, record }: BuildFiles,
): Promise<StoredExecBytes> {
  if (record === undefined) throw notFound(`build ${build.id} did not come as an exec`)
  const { der, outputs } = await readRecord(await blobs.find(view, record))
  const files: { prefix: Uint8Array; blob: Blob }[] = []
  for (const { path, digest } of outputs) {
    const blob = await blobs.find(view, digest)
    files.push({ prefix: outputPrefix(path, blob.size), blob })
  }
  const size = files.reduce((sum, { prefix, blob }) => sum + prefix.length + blob.size, 0)
  const head = execPrefix(der, size)
  return {
    length: head.length + size,
    async *bytes() {
      yield head
      for (const { prefix, blob } of files) {
        yield prefix
        if (blob.size > 0) yield* blob.read({ start: 0, end: blob.size - 1 })
      }
    },
  }
}

async function readRecord(
  record: Blob,
): Promise<{ der: Uint8Array; outputs: { path: string; digest: Digest }[] }> {
  const stream = new DerStream(record.read({ start: 0, end: record.size - 1 }))
  try {
    const { der, outputBytes } = await readHead(stream)
    const outputs: { path: string; digest: Digest }[] = []
    for await (const { path, bytes } of readOutputs(stream, outputBytes)) {
      const parts: Uint8Array[] = []
      for await (const part of bytes()) parts.push(Buffer.from(part))
      outputs.push({ path, digest: parseDigest(Buffer.concat(parts).toString()) })
    }
    return { der, outputs }
  } finally {
    await stream.close()
  }
}
