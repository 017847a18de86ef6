import type { ReadRange } from './elf-bytes.ts'
import { type FileFormat, FORMAT_BYTES, recognizeFile } from './file-format.ts'
import { type Architecture, findSolo5Kernel, type Solo5Kernel } from './solo5.ts'

/** A file in the place of a kernel. */
export type KernelFile = {
  readonly format: FileFormat
  /** Undefined when the file does not show it, and when Solo5 has no name for it. */
  readonly architecture: Architecture | undefined
  /** Undefined for a file without Solo5 notes. */
  readonly solo5: Solo5Kernel | undefined
}

/** Reads a file of `size` bytes as a kernel, without a further read for its format. Throws as `findSolo5Kernel`. */
export async function readKernelFile(size: number, read: ReadRange): Promise<KernelFile> {
  let head: Uint8Array | undefined
  const remember: ReadRange = async (start, end) => {
    const bytes = await read(start, end)
    // The bytes are valid until the next read.
    if (start === 0) head = bytes.slice(0, FORMAT_BYTES)
    return bytes
  }
  const solo5 = await findSolo5Kernel(size, remember)
  if (solo5 !== undefined) return { format: 'elf', architecture: solo5.architecture, solo5 }
  const { format, architecture } = recognizeFile(head ?? new Uint8Array())
  return { format, architecture, solo5: undefined }
}
