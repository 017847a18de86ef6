import { createReadStream } from 'node:fs'
import { open, opendir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ArchiveError } from '../../archives/archive-error.ts'
import { decompress } from '../../archives/decompress.ts'
import { readTar } from '../../archives/tar.ts'
import type { OpamPackage } from '../../unikernel/opam/package.ts'
import { findPackageOfFile } from '../../unikernel/opam/package-file.ts'

/** The `opam` file of a package in an opam repository. */
export type PackageFile = OpamPackage & {
  /** Undefined for a file of more than PACKAGE_FILE_BYTES_MAX. */
  readonly bytes: Uint8Array | undefined
}

/** A folder or an archive is no opam repository. The message is one line. */
export class NoOpamRepositoryError extends Error {
  override readonly name = 'NoOpamRepositoryError'
}

// Real ones have up to 50 KB.
export const PACKAGE_FILE_BYTES_MAX = 256 * 1024
// The repository of opam has 19 000.
export const PACKAGE_FILES_MAX = 200_000
// With its patches it has 60 000 entries and 150 MB.
export const ENTRIES_MAX = 1_000_000
export const UNPACKED_BYTES_MAX = 1024 * 1024 * 1024
const FOLDER_DEPTH_MAX = 6

/** Calls `onFile` for the files of packages, one after the other. Throws NoOpamRepositoryError, and what `onFile` throws. */
export type ReadPackageFiles = (onFile: (file: PackageFile) => Promise<void>) => Promise<void>

/**
 * Reads the files of packages in a folder or an archive (`.tar`, `.tar.gz`). NoOpamRepositoryError is thrown for anything else
 * and beyond the limits.
 */
export function packageFilesOf(path: string): ReadPackageFiles {
  return async (onFile) => {
    const found = await stat(path).catch((cause) => {
      throw new NoOpamRepositoryError(`there is no file or folder ${path}`, { cause })
    })
    if (!found.isDirectory()) return packageFilesIn(createReadStream(path))(onFile)
    for await (const file of new FolderReader().read(path)) await onFile(file)
  }
}

class FolderReader {
  #entries = 0

  async *read(folder: string, depth = 0): AsyncGenerator<PackageFile> {
    for await (const entry of await opendir(folder)) {
      this.#entries += 1
      if (this.#entries > ENTRIES_MAX) {
        throw new NoOpamRepositoryError(`there are more than ${ENTRIES_MAX} files in the folder`)
      }
      const path = join(folder, entry.name)
      // The files of a package are patches, and a checkout has its history beside the packages.
      const isFolder = entry.isDirectory() && entry.name !== '.git' && entry.name !== 'files'
      if (isFolder && depth < FOLDER_DEPTH_MAX) yield* this.read(path, depth + 1)
      const found = entry.isFile() ? findPackageOfFile(path) : undefined
      if (found !== undefined) yield { ...found, bytes: await readSmallFile(path) }
    }
  }
}

async function readSmallFile(path: string): Promise<Uint8Array | undefined> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    return size > PACKAGE_FILE_BYTES_MAX ? undefined : await file.readFile()
  } finally {
    await file.close()
  }
}

/** Reads the files of packages in the bytes of an archive. */
export function packageFilesIn(bytes: AsyncIterable<Uint8Array>): ReadPackageFiles {
  return async (onFile) => {
    const found: PackageFile[] = []
    const deliver = async () => {
      for (const file of found.splice(0)) await onFile(file)
    }
    const limits = { bytesMax: UNPACKED_BYTES_MAX, signal: new AbortController().signal }
    // The files of a chunk are delivered before the next chunk is read.
    const paced = async function* () {
      for await (const chunk of decompress(bytes, limits)) {
        await deliver()
        yield chunk
      }
    }
    try {
      await readTar(paced(), { entriesMax: ENTRIES_MAX }, ({ path, kind, size }) => {
        const one = kind === 'file' ? findPackageOfFile(path) : undefined
        if (one === undefined) return undefined
        if (size === 0 || size > PACKAGE_FILE_BYTES_MAX) {
          found.push({ ...one, bytes: size === 0 ? new Uint8Array() : undefined })
          return undefined
        }
        const content = Buffer.alloc(size)
        let filled = 0
        return (chunk) => {
          content.set(chunk, filled)
          filled += chunk.length
          if (filled === size) found.push({ ...one, bytes: content })
        }
      })
    } catch (cause) {
      if (!(cause instanceof ArchiveError)) throw cause
      throw new NoOpamRepositoryError(`the archive cannot be read: ${cause.message}`, { cause })
    }
    await deliver()
  }
}
