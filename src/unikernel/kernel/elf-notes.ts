import { Buffer } from 'node:buffer'
import type { ElfPart } from './elf.ts'
import { ElfFields, type ElfFormat, MalformedKernelError } from './elf-bytes.ts'

/** A note of an ELF. */
export type Note = {
  /** Offset of the note's header, in bytes from the beginning of the kernel. */
  readonly offset: number
  readonly type: number
  /** The owner of the note, with the NUL that should end it. */
  readonly name: Uint8Array
  /** The content of the note. */
  readonly descriptor: Uint8Array
  /** Offset of the descriptor, in bytes from the beginning of the kernel. */
  readonly descriptorOffset: number
}

const HEADER_BYTES = 12
const SOLO5 = 'Solo5'

/**
 * Lists the notes in the bytes of a segment or section (ELF specification, "Note Section"):
 *
 *     | namesz | descsz | type | name, padded | descriptor, padded |
 *
 * Throws MalformedKernelError when a note does not end within these bytes.
 */
export function listNotes(
  { offset, align }: ElfPart,
  bytes: Uint8Array,
  format: ElfFormat,
): Note[] {
  const fields = new ElfFields(bytes, format)
  // The specification says 8 for 64-bit ELFs; all linkers write 4, and declare 8 where they use it.
  const padding = align === 8 ? 8 : 4
  const notes: Note[] = []
  let at = 0
  while (at < bytes.length) {
    const left = bytes.length - at
    if (left < HEADER_BYTES) {
      if (bytes.subarray(at).every((byte) => byte === 0)) break
      throw new MalformedKernelError(
        offset + at,
        `a note header must have ${HEADER_BYTES} bytes, but ${left} are left`,
      )
    }
    const nameBytes = fields.u32(at)
    const descriptorBytes = fields.u32(at + 4)
    const name = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameBytes)
    // Solo5's structures have 20 bytes before the descriptor, at any alignment of the segment.
    const headBytes = padded(HEADER_BYTES + nameBytes, isSolo5Name(name) ? 4 : padding)
    const end = descriptorBytes === 0 ? HEADER_BYTES + nameBytes : headBytes + descriptorBytes
    if (end > left) {
      throw new MalformedKernelError(
        offset + at,
        `a note with a name of ${nameBytes} bytes and a descriptor of ${descriptorBytes} must end within the ${left} bytes that are left for notes`,
      )
    }
    const descriptorAt = Math.min(at + headBytes, bytes.length)
    notes.push({
      offset: offset + at,
      type: fields.u32(at + 8),
      name,
      descriptor: bytes.subarray(descriptorAt, descriptorAt + descriptorBytes),
      descriptorOffset: offset + descriptorAt,
    })
    at += padded(headBytes + descriptorBytes, padding)
  }
  return notes
}

/** True for a note whose name begins with Solo5's, with any ending. */
export function isSolo5Name(name: Uint8Array): boolean {
  return Buffer.from(name.subarray(0, SOLO5.length)).toString('latin1') === SOLO5
}

function padded(bytes: number, padding: number): number {
  return Math.ceil(bytes / padding) * padding
}
